// One update of weights by their gradients, with Keras's formulas; all tensors lie one after the other, and each block of 64
// floats has its factor on the learning rate and its weight decay (a factor below 0: nothing trains there).
//
// Settings: SGD, NESTEROV, RMSPROP, ADAM: the rule; CLIP: gradients are clipped to +-most; NORM: then scaled by the factor of clip_factor.

struct Params {
    len: u32, stride: u32, first_block: u32, rate: f32,
    // beta_1 and beta_2 of Adam, momentum of SGD, rho of RMSprop; epsilon; what unbiases Adam's young means.
    one: f32, two: f32, epsilon: f32, unbias: f32,
    most: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> g: array<f32>;
@group(0) @binding(3) var<storage, read_write> blocks: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> factor: array<f32>;
@group(0) @binding(5) var<storage, read_write> first: array<f32>;
//! if ADAM
@group(0) @binding(6) var<storage, read_write> second: array<f32>;
//! end

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var i = (group.y * 32768u + group.x) * 256u + thread; i < p.len; i += p.stride) {
        let block = blocks[p.first_block + i / 64u];
        if (block.x < 0.0) {
            continue;
        }
        let rate = p.rate * block.x;
        var d = g[i];
//! if CLIP
        d = clamp(d, -p.most, p.most);
//! end
//! if NORM
        d = d * factor[0];
//! end
        var v = w[i];
        v = v - v * block.y * rate;
//! if SGD
        let way = rate * d;
        let m = p.one * first[i] - way;
        first[i] = m;
//! if NESTEROV
        v = v + (p.one * m - way);
//! else
        v = v + m;
//! end
//! end
//! if RMSPROP
        let square = p.one * first[i] + (1.0 - p.one) * d * d;
        first[i] = square;
        v = v - rate * d / sqrt(square + p.epsilon);
//! end
//! if ADAM
        let m = first[i] + (1.0 - p.one) * (d - first[i]);
        let square = second[i] + (1.0 - p.two) * (d * d - second[i]);
        first[i] = m;
        second[i] = square;
        v = v - rate * p.unbias * m / (sqrt(square) + p.epsilon);
//! end
        w[i] = v;
    }
}
