// The sum of counts, by one workgroup.

struct Params { parts: u32, to: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> counts: array<u32>;
@group(0) @binding(2) var<storage, read_write> result: array<u32>;

var<workgroup> sums: array<u32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32) {
    var sum = 0u;
    for (var i = thread; i < p.parts; i += 256u) {
        sum += counts[i];
    }
    sums[thread] = sum;
    for (var reach = 128u; reach > 0u; reach /= 2u) {
        workgroupBarrier();
        if (thread < reach) {
            sums[thread] += sums[thread + reach];
        }
    }
    if (thread == 0u) {
        result[p.to] = sums[0];
    }
}
