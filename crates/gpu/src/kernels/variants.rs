//! Every kernel in the variants that training and inference of ResNets run, for tools that look at what compilers make of them.

use super::tile::{TILES, Tile};
use super::{kernel, source};
use crate::memory::Store;
use crate::program::Kernel;
use crate::template::Setting;

/// A variant, and the products of a workgroup where it is a matrix product.
#[derive(Clone, Debug)]
pub struct Variant {
    /// The kernel.
    pub kernel: Kernel,
    /// What it is for.
    pub what: &'static str,
    /// Its sizes, where it is a matrix product.
    pub product: Option<Product>,
}

/// Sizes of a workgroup's part of a matrix product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// Sums of a thread: rows and columns.
    pub sums: [u32; 2],
    /// Threads.
    pub threads: u32,
}

impl Product {
    fn of(tile: Tile) -> Product {
        let (height, width, sums) = (tile.height(), tile.width(), tile.sums());
        Product { height, width, sums, threads: height * width / (sums[0] * sums[1]) }
    }

    /// Multiply-adds for each byte that a workgroup reads from the device's memory, where nothing is cached.
    pub fn per_byte(self) -> f64 {
        let [height, width] = [self.height, self.width].map(f64::from);
        height * width / (4.0 * (height + width))
    }

    /// Multiply-adds for each byte that a thread reads from the workgroup's memory.
    pub fn per_local_byte(self) -> f64 {
        let [rows, columns] = self.sums.map(f64::from);
        rows * columns / (4.0 * (rows + columns))
    }
}

/// Settings of a convolution: names of those that are 1.
fn flags(all: &[&'static str], on: &[&str]) -> Vec<Setting> {
    all.iter().map(|name| (*name, u32::from(on.contains(name)))).collect()
}

const CONV: [&str; 10] = ["XV", "WV", "UP", "BIAS", "RESIDUAL", "ADD", "RELU", "MASK", "x", "y"];
const GRADIENT: [&str; 5] = ["XV", "WV", "UP", "x", "y"];

/// The same with everything stored in half precision that may be.
pub fn halves() -> Vec<Variant> {
    let store = |(name, value): Setting| match name {
        "x" | "y" => (name, Store::F16 as u32),
        _ => (name, value),
    };
    let half = |mut variant: Variant| {
        variant.kernel.settings = variant.kernel.settings.into_iter().map(store).collect();
        variant
    };
    variants().into_iter().map(half).collect()
}

/// All of them, in f32.
pub fn variants() -> Vec<Variant> {
    let mut all = Vec::new();
    for tile in TILES {
        let product = Some(Product::of(tile));
        for (what, on) in [
            ("inference: bias, ReLU", &["XV", "WV", "BIAS", "RELU"][..]),
            ("inference: bias, residual, ReLU", &["XV", "WV", "BIAS", "RESIDUAL", "RELU"]),
            ("training: no epilogue", &["XV", "WV"]),
            ("gradient of the input: sum, mask", &["XV", "WV", "ADD", "MASK"]),
            ("the first layer, upsampled", &["WV", "UP", "BIAS", "RELU"]),
            ("a head: 10 classes", &["XV", "BIAS"]),
        ] {
            let settings = [tile.by_terms(), flags(&CONV, on)].concat();
            all.push(Variant { kernel: kernel(source!("conv"), settings), what, product });
        }
        for (what, on) in [
            ("gradient of the kernel", &["XV", "WV"][..]),
            ("of the first layer's kernel, upsampled", &["WV", "UP"]),
        ] {
            let settings = [tile.by_rows(), flags(&GRADIENT, on)].concat();
            let kernel = kernel(source!("kernel_gradient"), settings);
            all.push(Variant { kernel, what, product });
        }
    }
    let passes = passes().into_iter();
    all.extend(passes.map(|(kernel, what)| Variant { kernel, what, product: None }));
    all
}

/// Kernels that pass over memory.
fn passes() -> Vec<(Kernel, &'static str)> {
    let rule = ["ADAM", "CLIP", "NESTEROV", "NORM", "RMSPROP", "SGD"];
    let sums = ["STATISTICS", "GRADIENTS", "PLAIN", "x"];
    let elementwise = ["ADD", "ACCUMULATE", "MASK", "RELU", "x", "y"];
    let pool = ["NORMALIZE", "RELU", "x"];
    let unpool = ["NORMALIZE", "RELU", "MASK", "x"];
    let apply = ["V", "RESIDUAL", "RELU", "x"];
    let map = || flags(&["x"], &[]);
    let none = || Vec::new();
    vec![
        (
            kernel(source!("frame"), flags(&["BYTES", "MAP", "x", "y"], &["BYTES", "MAP"])),
            "pixels of a batch",
        ),
        (kernel(source!("frame_gradient"), map()), "zeros around, gradient"),
        (kernel(source!("max_pool"), flags(&pool, &["NORMALIZE", "RELU"])), "norm, ReLU, maximum"),
        (kernel(source!("max_pool_gradient"), flags(&unpool, &unpool[..3])), "its gradient"),
        (kernel(source!("average"), map()), "global average"),
        (kernel(source!("average_gradient"), map()), "its gradient"),
        (kernel(source!("column_sums"), flags(&sums, &["STATISTICS"])), "batch norm: sums"),
        (
            kernel(source!("column_sums"), flags(&sums, &["GRADIENTS"])),
            "batch norm: sums of gradients",
        ),
        (kernel(source!("column_sums"), flags(&sums, &["PLAIN"])), "gradient of a bias"),
        (kernel(source!("norm_statistics"), map()), "mean and variance"),
        (kernel(source!("norm_apply"), flags(&apply, &["V", "RELU"])), "batch norm, ReLU"),
        (kernel(source!("norm_apply"), flags(&apply, &apply[..3])), "batch norm, residual, ReLU"),
        (kernel(source!("norm_gradients"), none()), "gradients of scale and shift"),
        (
            kernel(source!("norm_input"), flags(&["APART", "FROZEN", "x"], &[])),
            "gradient of its input",
        ),
        (kernel(source!("elementwise"), flags(&elementwise, &["ADD", "RELU"])), "sum, ReLU"),
        (kernel(source!("elementwise"), flags(&elementwise, &["MASK"])), "gradient of ReLU"),
        (kernel(source!("dropout"), map()), "dropout"),
        (kernel(source!("fill"), none()), "fill"),
        (kernel(source!("softmax"), none()), "softmax"),
        (kernel(source!("loss"), none()), "loss of each image"),
        (kernel(source!("loss_sum"), none()), "loss of a batch"),
        (kernel(source!("loss_gradient"), none()), "its gradient"),
        (kernel(source!("sum_parts"), none()), "sum of parts"),
        (kernel(source!("transpose"), map()), "kernel for the gradient of the input"),
        (kernel(source!("square_sum"), flags(&["CLIP"], &["CLIP"])), "norm of gradients"),
        (kernel(source!("clip_factor"), none()), "factor of clipping"),
        (kernel(source!("update"), flags(&rule, &["RMSPROP"])), "RMSprop"),
        (kernel(source!("update"), flags(&rule, &["ADAM"])), "Adam"),
        (kernel(source!("update"), flags(&rule, &["SGD", "NESTEROV"])), "SGD with momentum"),
        (kernel(source!("moving_average"), none()), "EMA"),
        (kernel(source!("noise"), none()), "numbers that tiles are tried on"),
        (kernel(source!("differ"), none()), "whether results are the same"),
        (kernel(source!("unscale"), none()), "gradients of a scaled loss"),
        (kernel(source!("count"), none()), "how many of them are not finite"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::expand;

    #[test]
    fn every_file_is_there_in_variants_that_expand() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/kernels");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut names: Vec<String> = files
            .filter(|path| path.extension().is_some_and(|ending| ending == "wgsl"))
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_string())
            .collect();
        names.sort();
        let all = variants();
        let mut found: Vec<&str> = all.iter().map(|variant| variant.kernel.name).collect();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, names);
        for Variant { kernel, what, .. } in all.iter().chain(&halves()) {
            expand(kernel.source, &kernel.settings).unwrap_or_else(|e| panic!("{what}: {e}"));
        }
    }

    #[test]
    fn products_count_what_they_read() {
        let product = Product { height: 128, width: 64, sums: [8, 4], threads: 256 };
        assert_eq!(Product::of(TILES[2]), product);
        // 8192 multiply-adds for 192 floats.
        assert!((product.per_byte() - 8192.0 / 768.0).abs() < 1e-12);
        assert!((product.per_local_byte() - 32.0 / 48.0).abs() < 1e-12);
    }
}
