// The sum of squares of gradients, a piece for each workgroup. CLIP: of gradients clipped to +-most.

struct Params { len: u32, piece: u32, groups: u32, to: u32, most: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> g: array<f32>;
@group(0) @binding(2) var<storage, read_write> parts: array<f32>;

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = group.y * 32768u + group.x;
    if (index >= p.groups) {
        return;
    }
    let last = min((index + 1u) * p.piece, p.len);
    var sum = 0.0;
    for (var i = index * p.piece + thread; i < last; i += 256u) {
        var v = g[i];
//! if CLIP
        v = clamp(v, -p.most, p.most);
//! end
        sum += v * v;
    }
    sums[thread] = sum;
    for (var reach = 128u; reach > 0u; reach /= 2u) {
        workgroupBarrier();
        if (thread < reach) {
            sums[thread] += sums[thread + reach];
        }
    }
    if (thread == 0u) {
        parts[p.to + index] = sums[0];
    }
}
