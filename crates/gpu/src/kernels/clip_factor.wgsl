// The factor that brings gradients to a global norm of at most `most`, from sums of squares, by one workgroup.

struct Params { parts: u32, most: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> parts: array<f32>;
@group(0) @binding(2) var<storage, read_write> factor: array<f32>;

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32) {
    var sum = 0.0;
    for (var i = thread; i < p.parts; i += 256u) {
        sum += parts[i];
    }
    sums[thread] = sum;
    for (var reach = 128u; reach > 0u; reach /= 2u) {
        workgroupBarrier();
        if (thread < reach) {
            sums[thread] += sums[thread + reach];
        }
    }
    if (thread == 0u) {
        let norm = sqrt(sums[0]);
        factor[0] = select(1.0, p.most / norm, norm > p.most);
    }
}
