// From the sums of column_sums to the gradients of a batch norm's gamma and beta; a thread for each channel.

struct Params { channels: u32, pieces: u32, epsilon: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> parts: array<f32>;
@group(0) @binding(2) var<storage, read_write> state: array<f32>;
@group(0) @binding(3) var<storage, read_write> gamma: array<f32>;
@group(0) @binding(4) var<storage, read_write> beta: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let channel = (group.y * 32768u + group.x) * 64u + thread;
    if (channel >= p.channels) {
        return;
    }
    var one = 0.0;
    var two = 0.0;
    for (var piece = 0u; piece < p.pieces; piece++) {
        one += parts[piece * 2u * p.channels + channel];
        two += parts[(piece * 2u + 1u) * p.channels + channel];
    }
    gamma[channel] = one / sqrt(state[p.channels + channel] + p.epsilon);
    beta[channel] = two;
}
