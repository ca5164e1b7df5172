//! Runs of kernels: what each is called with, and lists of them that are made once and run often.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::context::{Context, told};
use crate::error::{GpuError, Result};
use crate::memory::{ALIGNMENT, Span};
use crate::template::{Setting, expand};

/// A variant of a WGSL file. Its uniform parameters are at binding 0, its storage buffers from 1 on.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The name of the file.
    pub name: &'static str,
    /// Its text.
    pub source: &'static str,
    /// What chooses the variant.
    pub settings: Vec<Setting>,
}

impl PartialEq for Kernel {
    fn eq(&self, other: &Kernel) -> bool {
        self.name == other.name && self.settings == other.settings
    }
}

impl Eq for Kernel {}

impl Hash for Kernel {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.name, &self.settings).hash(state);
    }
}

/// Workgroups of one row of a call's grid; those beyond are in further rows.
pub const ACROSS: u32 = 32768;

/// One run of a kernel.
#[derive(Clone, Debug)]
pub struct Call {
    /// The kernel.
    pub kernel: Kernel,
    /// The words of its `Params`.
    pub parameters: Vec<u32>,
    /// Its buffers: number of the binding, and part of memory.
    pub bindings: Vec<(u32, Span)>,
    /// Number of workgroups. A kernel counts them by `group.y * 32768 + group.x`.
    pub groups: u32,
}

/// A compiled kernel.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

impl Pipeline {
    pub(crate) fn new(context: &Context, kernel: &Kernel) -> Result<Pipeline> {
        let refused = |found: String| {
            let hint = "this is a defect of headstart or of the driver: please report it";
            GpuError::new(format!("kernel {}", kernel.name), "one that compiles", found, hint)
        };
        let text = expand(kernel.source, &kernel.settings).map_err(refused)?;
        let device = &context.device;
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(kernel.name),
            source: wgpu::ShaderSource::Wgsl(text.as_str().into()),
        });
        let entries: Vec<wgpu::BindGroupLayoutEntry> = bindings(&text)
            .map(|(binding, uniform)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match uniform {
                        true => wgpu::BufferBindingType::Uniform,
                        false => wgpu::BufferBindingType::Storage { read_only: false },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(kernel.name),
            entries: &entries,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(kernel.name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[],
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        let internal = pollster::block_on(internal.pop());
        match pollster::block_on(scope.pop()).or(internal) {
            Some(error) => Err(refused(told(&error.to_string()))),
            None => Ok(Pipeline { pipeline, layout }),
        }
    }
}

/// The bindings that a kernel declares, and whether they are uniform.
fn bindings(text: &str) -> impl Iterator<Item = (u32, bool)> {
    text.lines().filter_map(|line| {
        let (_, rest) = line.split_once("@binding(")?;
        let (number, rest) = rest.split_once(')')?;
        Some((number.parse().ok()?, rest.contains("<uniform>")))
    })
}

struct Pass {
    pipeline: Arc<Pipeline>,
    group: wgpu::BindGroup,
    grid: [u32; 2],
}

/// Calls, one after the other, each of which sees what those before it wrote.
pub struct Program {
    passes: Vec<Pass>,
    /// The parameters of all calls, each at a multiple of [`ALIGNMENT`].
    uniforms: wgpu::Buffer,
    words: Vec<usize>,
}

impl Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Program of {} calls", self.passes.len())
    }
}

/// Calls of one submission: a driver's watchdog counts these.
const SUBMITTED: usize = 32;

impl Program {
    /// Compiles what is not compiled yet.
    ///
    /// # Errors
    /// If the driver refuses a kernel, or the device failed.
    pub fn new(context: &Context, calls: &[Call]) -> Result<Program> {
        let device = &context.device;
        let uniforms = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameters"),
            size: ALIGNMENT * calls.len().max(1) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut passes = Vec::with_capacity(calls.len());
        let mut words = vec![0u32; calls.len() * ALIGNMENT as usize / 4];
        for (i, call) in calls.iter().enumerate() {
            let at = i * ALIGNMENT as usize / 4;
            words[at..at + call.parameters.len()].copy_from_slice(&call.parameters);
            let pipeline = context.pipeline(&call.kernel)?;
            let bytes = (4 * call.parameters.len() as u64).next_multiple_of(16);
            let mut entries = vec![wgpu::BindGroupEntry {
                binding: 0,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &uniforms,
                    offset: ALIGNMENT * i as u64,
                    size: std::num::NonZeroU64::new(bytes),
                }),
            }];
            entries.extend(call.bindings.iter().map(|(binding, span)| wgpu::BindGroupEntry {
                binding: *binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &span.buffer,
                    offset: span.offset,
                    size: std::num::NonZeroU64::new(span.bytes),
                }),
            }));
            let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(call.kernel.name),
                layout: &pipeline.layout,
                entries: &entries,
            });
            let grid = [call.groups.min(ACROSS), call.groups.div_ceil(ACROSS)];
            passes.push(Pass { pipeline, group, grid });
        }
        if !words.is_empty() {
            context.queue.write_buffer(&uniforms, 0, bytemuck::cast_slice(&words));
        }
        context.check()?;
        let words = calls.iter().map(|call| call.parameters.len()).collect();
        Ok(Program { passes, uniforms, words })
    }

    /// Number of calls.
    pub fn len(&self) -> usize {
        self.passes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.passes.is_empty()
    }

    /// Changes parameters of a call, from its `first` word on, for the runs that follow.
    ///
    /// # Errors
    /// If it has not so many; if the device failed.
    pub fn set(&self, context: &Context, call: usize, first: usize, words: &[u32]) -> Result<()> {
        if self.words.get(call).is_none_or(|&count| first + words.len() > count) {
            return Err(GpuError::new("parameters", "those of a call", "others", ""));
        }
        let offset = ALIGNMENT * call as u64 + 4 * first as u64;
        context.queue.write_buffer(&self.uniforms, offset, bytemuck::cast_slice(words));
        context.check()
    }

    /// Submits all calls.
    ///
    /// # Errors
    /// If the device failed.
    pub fn run(&self, context: &Context) -> Result<()> {
        self.run_part(context, 0..self.passes.len())
    }

    /// Submits some of the calls.
    ///
    /// # Errors
    /// If the device failed.
    pub fn run_part(&self, context: &Context, calls: std::ops::Range<usize>) -> Result<()> {
        for passes in self.passes.get(calls).unwrap_or_default().chunks(SUBMITTED) {
            let mut encoder = context.device.create_command_encoder(&Default::default());
            {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                for Pass { pipeline, group, grid } in passes.iter().filter(|p| p.grid[0] > 0) {
                    pass.set_pipeline(&pipeline.pipeline);
                    pass.set_bind_group(0, group, &[]);
                    pass.dispatch_workgroups(grid[0], grid[1], 1);
                }
            }
            context.submit(encoder)?;
        }
        context.check()
    }
}
