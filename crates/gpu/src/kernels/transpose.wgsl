// The kernel of a convolution as the gradient of its input reads it: taps of one phase, [tap][out][in].

struct Params {
    len: u32, stride: u32, inputs: u32, outputs: u32,
    // Kernel size, the phase's first tap, step between taps, and its taps across.
    kernel: u32, first_y: u32, first_x: u32, step: u32,
    taps: u32, base: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> w: array<{x}>;
@group(0) @binding(2) var<storage, read_write> y: array<{x}>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var i = (group.y * 32768u + group.x) * 256u + thread; i < p.len; i += p.stride) {
        let input = i % p.inputs;
        let row = i / p.inputs;
        let output = row % p.outputs;
        let tap = row / p.outputs;
        let line = p.first_y + tap / p.taps * p.step;
        let column = p.first_x + tap % p.taps * p.step;
        let origin = ((line * p.kernel + column) * p.inputs + input) * p.outputs + output;
        y[p.base * p.inputs + i] = w[origin];
    }
}
