// y = x * scale + shift, plus a residual, then max(y, 0). Scale and shift are the third and fourth row of the batch norm's
// state.
//
// Settings: V: channels are a multiple of 4; RESIDUAL, RELU.

struct Params { len: u32, stride: u32, channels: u32 }

@group(0) @binding(0) var<uniform> p: Params;
//! if V
@group(0) @binding(1) var<storage, read_write> x: array<vec4<{x}>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<{x}>>;
@group(0) @binding(3) var<storage, read_write> state: array<vec4<f32>>;
//! if RESIDUAL
@group(0) @binding(4) var<storage, read_write> residual: array<vec4<{x}>>;
//! end
//! else
@group(0) @binding(1) var<storage, read_write> x: array<{x}>;
@group(0) @binding(2) var<storage, read_write> y: array<{x}>;
@group(0) @binding(3) var<storage, read_write> state: array<f32>;
//! if RESIDUAL
@group(0) @binding(4) var<storage, read_write> residual: array<{x}>;
//! end
//! end

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var i = (group.y * 32768u + group.x) * 256u + thread; i < p.len; i += p.stride) {
        let channel = i % p.channels;
//! if V
        var v = {wide4_x}(x[i]) * state[2u * p.channels + channel] + state[3u * p.channels + channel];
//! else
        var v = {wide_x}(x[i]) * state[2u * p.channels + channel] + state[3u * p.channels + channel];
//! end
//! if RESIDUAL
//! if V
        v = v + {wide4_x}(residual[i]);
//! else
        v = v + {wide_x}(residual[i]);
//! end
//! end
//! if RELU
//! if V
        v = select(v, vec4<f32>(0.0), v < vec4<f32>(0.0));
//! else
        v = select(v, 0.0, v < 0.0);
//! end
//! end
//! if V
        y[i] = {near4_x}(v);
//! else
        y[i] = {near_x}(v);
//! end
    }
}
