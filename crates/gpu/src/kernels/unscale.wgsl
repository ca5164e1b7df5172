// Gradients of a scaled loss to those of the loss, and how many are not finite, a piece for each workgroup.

struct Params { len: u32, piece: u32, groups: u32, to: u32, factor: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> g: array<f32>;
@group(0) @binding(2) var<storage, read_write> counts: array<u32>;

var<workgroup> sums: array<u32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = group.y * 32768u + group.x;
    if (index >= p.groups) {
        return;
    }
    let last = min((index + 1u) * p.piece, p.len);
    var sum = 0u;
    for (var i = index * p.piece + thread; i < last; i += 256u) {
        let v = g[i];
        // By the bits: a compiler may take every float for finite.
        sum += select(0u, 1u, (bitcast<u32>(v) & 0x7f800000u) == 0x7f800000u);
        g[i] = v * p.factor;
    }
    sums[thread] = sum;
    for (var reach = 128u; reach > 0u; reach /= 2u) {
        workgroupBarrier();
        if (thread < reach) {
            sums[thread] += sums[thread + reach];
        }
    }
    if (thread == 0u) {
        counts[p.to + index] = sums[0];
    }
}
