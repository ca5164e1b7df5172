// y[i] = parts[0][i] + parts[1][i] + ..., in this order.

struct Params { len: u32, parts: u32, stride: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> parts: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var i = (group.y * 32768u + group.x) * 256u + thread; i < p.len; i += p.stride) {
        var sum = 0.0;
        for (var part = 0u; part < p.parts; part++) {
            sum += parts[part * p.len + i];
        }
        y[i] = sum;
    }
}
