// y = numbers at random, the same each time: as floats from a 128th to 2, as halves from 1 to 2, of both signs.

struct Params { len: u32, stride: u32, seed: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var i = (group.y * 32768u + group.x) * 256u + thread; i < p.len; i += p.stride) {
        var h = (i ^ p.seed) * 0x9e3779b1u;
        h = (h ^ (h >> 15u)) * 0x85ebca77u;
        h = (h ^ (h >> 13u)) * 0xc2b2ae3du;
        y[i] = ((h ^ (h >> 16u)) & 0x83ff83ffu) | 0x3c003c00u;
    }
}
