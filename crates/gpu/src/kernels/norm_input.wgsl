// The gradient of a batch norm's input: with the statistics of the batch
// gamma / s (dy - dbeta / n - (x - mean) / s dgamma / n), where s = sqrt(variance + epsilon); with others (FROZEN) dy scale.
//
// APART: dy is not dx itself.

struct Params { len: u32, stride: u32, channels: u32, share: f32, epsilon: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> dx: array<{x}>;
@group(0) @binding(2) var<storage, read_write> state: array<f32>;
//! if APART
@group(0) @binding(3) var<storage, read_write> dy: array<{x}>;
//! end
//! if !FROZEN
@group(0) @binding(4) var<storage, read_write> x: array<{x}>;
@group(0) @binding(5) var<storage, read_write> gamma: array<f32>;
@group(0) @binding(6) var<storage, read_write> dgamma: array<f32>;
@group(0) @binding(7) var<storage, read_write> dbeta: array<f32>;
//! end

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var i = (group.y * 32768u + group.x) * 256u + thread; i < p.len; i += p.stride) {
        let channel = i % p.channels;
//! if APART
        let d = {wide_x}(dy[i]);
//! else
        let d = {wide_x}(dx[i]);
//! end
//! if FROZEN
        dx[i] = {near_x}(d * state[2u * p.channels + channel]);
//! else
        let s = 1.0 / sqrt(state[p.channels + channel] + p.epsilon);
        let hat = ({wide_x}(x[i]) - state[channel]) * s;
        let centred = d - dbeta[channel] * p.share;
        dx[i] = {near_x}(gamma[channel] * s * (centred - hat * (dgamma[channel] * p.share)));
//! end
    }
}
