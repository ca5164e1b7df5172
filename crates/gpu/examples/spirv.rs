//! Writes every variant of every kernel as SPIR-V, as wgpu gives it to Vulkan drivers, in f32 and in f16, with a list of them.
//!
//!     cargo run -p headstart-gpu --example spirv -- FOLDER
//!
//! `tools/gpu/compiled.py` has a driver compile them.

use std::error::Error;
use std::path::PathBuf;

use headstart_gpu::Store;
use headstart_gpu::kernels::variants::{Product, Variant, halves, variants};
use headstart_gpu::template::expand;
use naga::back::spv::{Options, PipelineOptions, ZeroInitializeWorkgroupMemoryMode, write_vec};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("give a folder")?);
    std::fs::create_dir_all(&folder)?;
    let mut list = Vec::new();
    for (number, variant) in variants().iter().chain(&halves()).enumerate() {
        // Kernels that store nothing in 16 bits are there already.
        if number >= variants().len() && !is_half(variant) {
            continue;
        }
        let file = format!("{number:03}-{}.spv", variant.kernel.name);
        let words = spirv(variant)?;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        std::fs::write(folder.join(&file), bytes)?;
        list.push(entry(variant, &file));
    }
    std::fs::write(folder.join("list.json"), serde_json::to_string_pretty(&list)?)?;
    println!("{} variants in {}", list.len(), folder.display());
    Ok(())
}

fn is_half(variant: &Variant) -> bool {
    variant
        .kernel
        .settings
        .iter()
        .any(|(name, value)| matches!(*name, "x" | "y") && *value == Store::F16 as u32)
}

fn entry(variant: &Variant, file: &str) -> Value {
    let Variant { kernel, what, product } = variant;
    let half = is_half(variant);
    let product = product.map(|product| {
        let Product { height, width, sums, threads } = product;
        json!({
            "height": height, "width": width, "sums": sums, "threads": threads,
            "per_byte": product.per_byte() * if half { 2.0 } else { 1.0 },
            "per_local_byte": product.per_local_byte(),
        })
    });
    let uniforms = kernel.source.lines().filter(|line| line.contains("var<uniform>")).count();
    let bindings = kernel.source.lines().filter_map(|line| {
        let (number, _) = line.split_once("@binding(")?.1.split_once(')')?;
        number.parse::<u32>().ok()
    });
    let bindings = bindings.max().map_or(0, |last| last + 1);
    json!({
        "file": file, "kernel": kernel.name, "what": what, "product": product, "half": half,
        "settings": kernel.settings, "bindings": bindings, "uniforms": uniforms,
    })
}

/// The words of a variant. The options are those of wgpu on a driver with `robustBufferAccess2`: what lies outside a buffer is the
/// driver's to check, and positions in a workgroup's memory are clamped.
fn spirv(variant: &Variant) -> Result<Vec<u32>, Box<dyn Error>> {
    let text = expand(variant.kernel.source, &variant.kernel.settings)?;
    let module = naga::front::wgsl::parse_str(&text).map_err(|e| e.emit_to_string(&text))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::SHADER_FLOAT16);
    let info = validator.validate(&module).map_err(|e| e.emit_to_string(&text))?;
    let options = Options {
        lang_version: (1, 5),
        bounds_check_policies: BoundsCheckPolicies {
            index: BoundsCheckPolicy::Restrict,
            buffer: BoundsCheckPolicy::Unchecked,
            image_load: BoundsCheckPolicy::Unchecked,
            binding_array: BoundsCheckPolicy::Unchecked,
        },
        zero_initialize_workgroup_memory: ZeroInitializeWorkgroupMemoryMode::None,
        ..Options::default()
    };
    let entry =
        PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: "main".into() };
    Ok(write_vec(&module, &info, &options, Some(&entry))?)
}
