// Dropout with the random numbers of the CPU: SplitMix64 (Steele et al. 2014) at the element's position, in halves of 32 bits.

struct Params { len: u32, stride: u32, rate: f32, scale: f32, seed_low: u32, seed_high: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<{x}>;
@group(0) @binding(2) var<storage, read_write> y: array<{x}>;

// Numbers of 64 bits: the low half is x, the high half y.
fn add(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn multiply(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let a0 = a.x & 0xffffu;
    let a1 = a.x >> 16u;
    let b0 = b.x & 0xffffu;
    let b1 = b.x >> 16u;
    let low = a0 * b0;
    let middle = a1 * b0 + (low >> 16u);
    let other = a0 * b1 + (middle & 0xffffu);
    let high = a1 * b1 + (middle >> 16u) + (other >> 16u);
    return vec2<u32>((other << 16u) | (low & 0xffffu), high + a.x * b.y + a.y * b.x);
}

fn fold(a: vec2<u32>, shift: u32) -> vec2<u32> {
    return a ^ vec2<u32>((a.x >> shift) | (a.y << (32u - shift)), a.y >> shift);
}

fn uniform_at(position: u32) -> f32 {
    let next = add(vec2<u32>(position, 0u), vec2<u32>(1u, 0u));
    var z = add(vec2<u32>(p.seed_low, p.seed_high), multiply(next, vec2<u32>(0x7f4a7c15u, 0x9e3779b9u)));
    z = multiply(fold(z, 30u), vec2<u32>(0x1ce4e5b9u, 0xbf58476du));
    z = multiply(fold(z, 27u), vec2<u32>(0x133111ebu, 0x94d049bbu));
    z = fold(z, 31u);
    return f32(z.y >> 8u) / 16777216.0;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var i = (group.y * 32768u + group.x) * 256u + thread; i < p.len; i += p.stride) {
        y[i] = {near_x}(select(0.0, {wide_x}(x[i]) * p.scale, uniform_at(i) >= p.rate));
    }
}
