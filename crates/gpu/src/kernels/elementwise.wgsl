// y = f(a, b), element by element, four at a time; memory is padded, so that the last four may be fewer.
//
// Settings: ADD: y = a + b; ACCUMULATE: y += factor a; MASK: y = 0 where a is not positive; none of them: y = a. RELU: then
// max(y, 0).

struct Params { len: u32, stride: u32, factor: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> a: array<vec4<{x}>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<{y}>>;
//! if ADD
@group(0) @binding(3) var<storage, read_write> b: array<vec4<{x}>>;
//! end

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var i = (group.y * 32768u + group.x) * 256u + thread; i < p.len; i += p.stride) {
        var v = {wide4_x}(a[i]);
//! if ADD
        v = v + {wide4_x}(b[i]);
//! end
//! if ACCUMULATE
        v = {wide4_y}(y[i]) + p.factor * v;
//! end
//! if MASK
        v = select(vec4<f32>(0.0), {wide4_y}(y[i]), v > vec4<f32>(0.0));
//! end
//! if RELU
        v = select(v, vec4<f32>(0.0), v < vec4<f32>(0.0));
//! end
        y[i] = {near4_y}(v);
    }
}
