// Categorical cross-entropy of rows of probabilities against labels: of each row its loss and whether its first largest
// probability is the label's. A row may have two labels, each with its share; a label counts by its class's weight, and a
// fraction of it is spread over all classes.

struct Params { rows: u32, classes: u32, share: f32, smoothing: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> values: array<f32>;
@group(0) @binding(2) var<storage, read_write> first: array<u32>;
@group(0) @binding(3) var<storage, read_write> second: array<u32>;
@group(0) @binding(4) var<storage, read_write> weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> losses: array<f32>;
@group(0) @binding(6) var<storage, read_write> hits: array<u32>;

// The least normal number keeps the logarithm finite.
fn entropy(probability: f32) -> f32 {
    return -log(select(probability, 1.17549435e-38, probability < 1.17549435e-38));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = (group.y * 32768u + group.x) * 64u + thread;
    if (row >= p.rows) {
        return;
    }
    let start = row * p.classes;
    var best = 0u;
    var total = 0.0;
    for (var k = 0u; k < p.classes; k++) {
        let v = values[start + k];
        if (v > values[start + best]) {
            best = k;
        }
        if (p.smoothing > 0.0) {
            total += entropy(v);
        }
    }
    let mean = total / f32(p.classes);
    let one = first[row];
    let two = second[row];
    let own = entropy(values[start + one]);
    let other = entropy(values[start + two]);
    let loss_one = (own + p.smoothing * (mean - own)) * weights[one];
    let loss_two = (other + p.smoothing * (mean - other)) * weights[two];
    losses[row] = (1.0 - p.share) * loss_one + p.share * loss_two;
    let sum_is_number = values[start + best] == values[start + best];
    hits[row] = select(0u, 1u, sum_is_number && best == select(one, two, p.share > 0.5));
}
