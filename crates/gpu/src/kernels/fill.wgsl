// y = the bits of a value.

struct Params { len: u32, stride: u32, bits: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var i = (group.y * 32768u + group.x) * 256u + thread; i < p.len; i += p.stride) {
        y[i] = p.bits;
    }
}
