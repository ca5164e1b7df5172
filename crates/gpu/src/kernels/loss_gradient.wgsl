// The gradient of the mean cross-entropy with respect to the logits: weight (p - target) / rows, of both labels.

struct Params { len: u32, stride: u32, classes: u32, rows: f32, share: f32, smoothing: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> values: array<f32>;
@group(0) @binding(2) var<storage, read_write> first: array<u32>;
@group(0) @binding(3) var<storage, read_write> second: array<u32>;
@group(0) @binding(4) var<storage, read_write> weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var i = (group.y * 32768u + group.x) * 256u + thread; i < p.len; i += p.stride) {
        let row = i / p.classes;
        let class_index = i - row * p.classes;
        let spread = p.smoothing / f32(p.classes);
        let one = first[row];
        let two = second[row];
        let target_one = select(0.0, 1.0 - p.smoothing, one == class_index) + spread;
        let target_two = select(0.0, 1.0 - p.smoothing, two == class_index) + spread;
        let d_one = (values[i] - target_one) * weights[one];
        let d_two = (values[i] - target_two) * weights[two];
        dx[i] = ((1.0 - p.share) * d_one + p.share * d_two) / p.rows;
    }
}
