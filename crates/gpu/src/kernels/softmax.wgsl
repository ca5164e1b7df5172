// y = softmax(x), row by row, with the row's largest value taken off first; a workgroup for each row.

struct Params { classes: u32, rows: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

var<workgroup> shared_values: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.y * 32768u + group.x;
    if (row >= p.rows) {
        return;
    }
    let first = row * p.classes;
    var top = x[first];
    for (var k = thread; k < p.classes; k += 64u) {
        top = max(top, x[first + k]);
    }
    shared_values[thread] = top;
    for (var reach = 32u; reach > 0u; reach /= 2u) {
        workgroupBarrier();
        if (thread < reach) {
            shared_values[thread] = max(shared_values[thread], shared_values[thread + reach]);
        }
    }
    workgroupBarrier();
    top = shared_values[0];
    workgroupBarrier();
    var sum = 0.0;
    for (var k = thread; k < p.classes; k += 64u) {
        sum += exp(x[first + k] - top);
    }
    shared_values[thread] = sum;
    for (var reach = 32u; reach > 0u; reach /= 2u) {
        workgroupBarrier();
        if (thread < reach) {
            shared_values[thread] += shared_values[thread + reach];
        }
    }
    workgroupBarrier();
    sum = shared_values[0];
    for (var k = thread; k < p.classes; k += 64u) {
        y[first + k] = exp(x[first + k] - top) / sum;
    }
}
