//! An open device: its queue, its compiled kernels, and the errors that its driver reported.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::adapter::{Adapter, Choice, choose};
use crate::error::{GpuError, Result};
use crate::memory::{ALIGNMENT, Span};
use crate::program::{Kernel, Pipeline};
use crate::tune::Tuning;

/// Bindings that a kernel has at most; WebGPU promises 8.
const BINDINGS: u32 = 8;
/// Longest wait for one submission. A driver that takes longer is taken to hang.
const PATIENCE: Duration = Duration::from_secs(120);
/// Largest buffer: its elements are counted in 31 bits.
const MOST: u64 = 1 << 33;

/// An open device.
pub struct Context {
    adapter: Adapter,
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    page: u64,
    pipelines: Mutex<HashMap<Kernel, Arc<Pipeline>>>,
    /// The first error that no call returned.
    failed: Arc<Mutex<Option<String>>>,
    /// What was submitted and not waited for, the oldest first.
    submitted: Mutex<VecDeque<wgpu::SubmissionIndex>>,
    pub(crate) tuning: Tuning,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("adapter", &self.adapter).finish_non_exhaustive()
    }
}

impl Context {
    /// Opens an adapter.
    ///
    /// # Errors
    /// If there is none, it has no device to give, or lacks what kernels need.
    pub fn open(choice: Choice) -> Result<Context> {
        let found = choose(choice)?;
        let adapter = Adapter::of(&found);
        let of_adapter = found.limits();
        if of_adapter.max_storage_buffers_per_shader_stage < BINDINGS
            || of_adapter.max_compute_invocations_per_workgroup < 256
            || of_adapter.max_compute_workgroup_storage_size < 16 << 10
        {
            let expected = "8 buffers, 256 threads and 16 KiB of shared memory for a kernel";
            return Err(GpuError::new(&adapter.name, expected, "less", "use `--device cpu`"));
        }
        let limits = wgpu::Limits {
            max_buffer_size: of_adapter.max_buffer_size,
            max_storage_buffer_binding_size: of_adapter.max_storage_buffer_binding_size,
            max_compute_workgroup_storage_size: of_adapter.max_compute_workgroup_storage_size,
            ..wgpu::Limits::default()
        };
        let limits = limits.or_worse_values_from(&of_adapter);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("headstart"),
            required_features: found.features() & wgpu::Features::SHADER_F16,
            required_limits: limits.clone(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) =
            pollster::block_on(found.request_device(&descriptor)).map_err(|error| {
                let hint = "another program may hold it; `headstart doctor` lists adapters";
                GpuError::new(&adapter.name, "a device", told(&error.to_string()), hint)
            })?;
        let failed = Arc::new(Mutex::new(None));
        let keep = |failed: &Arc<Mutex<Option<String>>>, message: String| {
            let mut first = failed.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(message);
        };
        let errors = Arc::clone(&failed);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            keep(&errors, told(&error.to_string()));
        }));
        let lost = Arc::clone(&failed);
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                keep(&lost, format!("device lost: {}", told(&message)));
            }
        });
        let page = limits.max_buffer_size.min(limits.max_storage_buffer_binding_size).min(MOST);
        let page = page / ALIGNMENT * ALIGNMENT;
        let pipelines = Mutex::default();
        let (submitted, tuning) = (Mutex::default(), Tuning::default());
        Ok(Context { adapter, device, queue, page, pipelines, failed, submitted, tuning })
    }

    /// The same with buffers of at most `page` bytes, as an adapter with a lower limit has them.
    #[must_use]
    pub fn with_page(self, page: u64) -> Context {
        let page = page.clamp(ALIGNMENT, self.page) / ALIGNMENT * ALIGNMENT;
        Context { page, ..self }
    }

    /// The adapter.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// Bytes of the largest buffer, which every tensor must fit.
    pub fn page(&self) -> u64 {
        self.page
    }

    /// Copies `bytes` to the start of a span.
    ///
    /// # Errors
    /// If they are more than the span holds; if the device failed.
    pub fn write(&self, to: &Span, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 > to.bytes {
            let (expected, found) = (format!("at most {} bytes", to.bytes), bytes.len());
            return Err(GpuError::new("upload", expected, format!("{found} bytes"), ""));
        }
        let whole = bytes.len() / 4 * 4;
        self.queue.write_buffer(&to.buffer, to.offset, &bytes[..whole]);
        let rest = &bytes[whole..];
        if !rest.is_empty() {
            let mut last = [0u8; 4];
            last[..rest.len()].copy_from_slice(rest);
            self.queue.write_buffer(&to.buffer, to.offset + whole as u64, &last);
        }
        self.check()
    }

    /// Copies floats to the start of a span.
    ///
    /// # Errors
    /// As [`Context::write`].
    pub fn write_floats(&self, to: &Span, values: &[f32]) -> Result<()> {
        self.write(to, bytemuck::cast_slice(values))
    }

    /// Waits for all that was submitted and copies spans, one after the other, to `into`, replacing its contents; `words` of each.
    ///
    /// # Errors
    /// If the device failed, or does not answer.
    pub fn read(&self, spans: &[(Span, usize)], into: &mut Vec<u32>) -> Result<()> {
        into.clear();
        // A piece at a time, so that little memory is taken beside the tensors themselves.
        let mut rest = spans;
        while !rest.is_empty() {
            let mut bytes = 0;
            let mut count = 0;
            for (_, words) in rest {
                let more = 4 * *words as u64;
                if count > 0 && bytes + more > PIECE {
                    break;
                }
                bytes += more;
                count += 1;
            }
            let (piece, others) = rest.split_at(count);
            self.read_piece(piece, bytes, into)?;
            rest = others;
        }
        Ok(())
    }

    fn read_piece(&self, spans: &[(Span, usize)], bytes: u64, into: &mut Vec<u32>) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("download"),
            size: bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let mut at = 0;
        for (span, words) in spans {
            let length = (4 * *words as u64).min(span.bytes);
            encoder.copy_buffer_to_buffer(&span.buffer, span.offset, &staging, at, length);
            at += length;
        }
        self.submit(encoder)?;
        let (send, received) = std::sync::mpsc::channel();
        staging.slice(..).map_async(wgpu::MapMode::Read, move |result| {
            let _ = send.send(result.map_err(|error| error.to_string()));
        });
        self.wait()?;
        let failed =
            |found: String| GpuError::new(&self.adapter.name, "what it computed", found, LOST);
        // Another thread that waits may be the one that calls back.
        match received.recv_timeout(PATIENCE) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed(told(&error))),
            Err(_) => return Err(failed("nothing".to_string())),
        }
        let view =
            staging.slice(..).get_mapped_range().map_err(|e| failed(told(&e.to_string())))?;
        into.extend(bytemuck::pod_collect_to_vec::<u8, u32>(&view));
        Ok(())
    }

    /// Copies the floats of one span to `into`, replacing its contents.
    ///
    /// # Errors
    /// As [`Context::read`].
    pub fn read_floats(&self, from: &Span, count: usize) -> Result<Vec<f32>> {
        let mut words = Vec::new();
        self.read(&[(from.clone(), count)], &mut words)?;
        Ok(words.into_iter().map(f32::from_bits).collect())
    }

    /// Submits commands; waits for the oldest where many are under way.
    pub(crate) fn submit(&self, encoder: wgpu::CommandEncoder) -> Result<()> {
        let index = self.queue.submit([encoder.finish()]);
        let oldest = {
            let mut submitted = self.submitted.lock().unwrap_or_else(PoisonError::into_inner);
            submitted.push_back(index);
            if submitted.len() > UNDER_WAY { submitted.pop_front() } else { None }
        };
        match oldest {
            Some(index) => self.wait_for(Some(index)),
            None => self.check(),
        }
    }

    /// Waits until all that was submitted is done.
    ///
    /// # Errors
    /// If the device failed, or does not answer for two minutes.
    pub fn wait(&self) -> Result<()> {
        loop {
            let mut submitted = self.submitted.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(index) = submitted.pop_front() else { break };
            drop(submitted);
            self.wait_for(Some(index))?;
        }
        self.wait_for(None)
    }

    fn wait_for(&self, submission_index: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let wait = wgpu::PollType::Wait { submission_index, timeout: Some(PATIENCE) };
        if let Err(error) = self.device.poll(wait) {
            let expected = format!("an answer within {} seconds", PATIENCE.as_secs());
            return Err(GpuError::new(
                &self.adapter.name,
                expected,
                told(&error.to_string()),
                LOST,
            ));
        }
        self.check()
    }

    /// Fails if the driver reported an error since the device was opened: what it computes then is not to be trusted.
    ///
    /// # Errors
    /// In that case.
    pub fn check(&self) -> Result<()> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match &*failed {
            None => Ok(()),
            Some(found) => {
                Err(GpuError::new(&self.adapter.name, "a device that computes", found, LOST))
            }
        }
    }

    /// Memory of the device.
    ///
    /// # Errors
    /// If it has not so much.
    pub(crate) fn allocate(&self, bytes: u64) -> Result<wgpu::Buffer> {
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let invalid = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_SRC
                | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let invalid = pollster::block_on(invalid.pop());
        match pollster::block_on(memory.pop()).or(invalid) {
            None => Ok(buffer),
            Some(_) => {
                let expected = format!("{} MB of free memory", bytes.div_ceil(1_000_000));
                Err(GpuError::new(&self.adapter.name, expected, "less", "lower --batch-size"))
            }
        }
    }

    /// The compiled kernel; compiles it where this is its first use.
    ///
    /// # Errors
    /// If the driver refuses it.
    pub(crate) fn pipeline(&self, kernel: &Kernel) -> Result<Arc<Pipeline>> {
        let mut pipelines = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = pipelines.get(kernel) {
            return Ok(Arc::clone(pipeline));
        }
        let pipeline = Arc::new(Pipeline::new(self, kernel)?);
        pipelines.insert(kernel.clone(), Arc::clone(&pipeline));
        Ok(pipeline)
    }
}

/// Submissions that are under way at once.
const UNDER_WAY: usize = 64;
/// Bytes that are downloaded at once.
const PIECE: u64 = 64 << 20;
/// What to do about a device that failed.
const LOST: &str =
    "checkpoints are intact: go on with `--resume`, also with `--device cpu --allow-changes`";

/// A driver's message on one line, without what a terminal would act on.
pub(crate) fn told(message: &str) -> String {
    let words = message.split(|c: char| c.is_whitespace() || c.is_control());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}
