// The mean of the rows' losses and the number of hits, by one workgroup.

struct Params { rows: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> losses: array<f32>;
@group(0) @binding(2) var<storage, read_write> hits: array<u32>;
// The loss as bits, and the hits.
@group(0) @binding(3) var<storage, read_write> result: array<u32>;

var<workgroup> sums: array<f32, 256>;
var<workgroup> counts: array<u32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32) {
    var sum = 0.0;
    var count = 0u;
    for (var row = thread; row < p.rows; row += 256u) {
        sum += losses[row];
        count += hits[row];
    }
    sums[thread] = sum;
    counts[thread] = count;
    for (var reach = 128u; reach > 0u; reach /= 2u) {
        workgroupBarrier();
        if (thread < reach) {
            sums[thread] += sums[thread + reach];
            counts[thread] += counts[thread + reach];
        }
    }
    if (thread == 0u) {
        result[0] = bitcast<u32>(sums[0] / f32(p.rows));
        result[1] = counts[0];
    }
}
