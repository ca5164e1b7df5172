// average = keep average + (1 - keep) w

struct Params { len: u32, stride: u32, keep: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> average: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var i = (group.y * 32768u + group.x) * 256u + thread; i < p.len; i += p.stride) {
        average[i] = p.keep * average[i] + (1.0 - p.keep) * w[i];
    }
}
