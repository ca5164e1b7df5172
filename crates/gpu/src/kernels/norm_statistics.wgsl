// From the sums of column_sums to a batch norm's mean, biased variance, scale and shift; a thread for each channel.
//
// MOVES: the moving statistics follow.

struct Params {
    channels: u32, pieces: u32, rows: f32, epsilon: f32,
    momentum: f32, unbias: f32, moves: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<{x}>;
@group(0) @binding(2) var<storage, read_write> parts: array<f32>;
// Mean, variance, scale and shift, one after the other.
@group(0) @binding(3) var<storage, read_write> state: array<f32>;
@group(0) @binding(4) var<storage, read_write> gamma: array<f32>;
@group(0) @binding(5) var<storage, read_write> beta: array<f32>;
@group(0) @binding(6) var<storage, read_write> moving_mean: array<f32>;
@group(0) @binding(7) var<storage, read_write> moving_variance: array<f32>;

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
    let way = one / p.rows;
    let mean = {wide_x}(x[channel]) + way;
    let variance = max(two / p.rows - way * way, 0.0);
    state[channel] = mean;
    state[p.channels + channel] = variance;
    let scale = gamma[channel] / sqrt(variance + p.epsilon);
    state[2u * p.channels + channel] = scale;
    state[3u * p.channels + channel] = beta[channel] - mean * scale;
    if (p.moves > 0u) {
        let keep = p.momentum;
        moving_mean[channel] = moving_mean[channel] * keep + mean * (1.0 - keep);
        moving_variance[channel] = moving_variance[channel] * keep + variance * p.unbias * (1.0 - keep);
    }
}
