//! A Keras model's configuration, as `.keras`, whole-model `.h5` and TensorFlow.js files carry it.

use serde_json::Value;

/// Keras's batch norm epsilon where a layer does not name one.
pub(super) const DEFAULT_EPSILON: f32 = 1e-3;

/// Batch norm layers of a configuration in its order, models within models included, each with its
/// epsilon. What cannot be read as a configuration has none.
pub(super) fn epsilons(json: &str) -> Vec<(String, f32)> {
    let mut found = Vec::new();
    if let Ok(value) = serde_json::from_str(json) {
        collect(&value, &mut found);
    }
    found
}

/// [`epsilons`] of parsed JSON, whose depth the parser bounds.
pub(super) fn collect(value: &Value, found: &mut Vec<(String, f32)>) {
    let config = &value["config"];
    let class = value["class_name"].as_str().unwrap_or("");
    if class.starts_with("BatchNormalization") {
        let epsilon = config["epsilon"].as_f64().map_or(DEFAULT_EPSILON, |e| e as f32);
        if let Some(name) = config["name"].as_str()
            && epsilon.is_finite()
            && epsilon > 0.0
        {
            found.push((name.to_string(), epsilon));
        }
    }
    let inner = value.get("model_config").unwrap_or(value);
    let layers = inner["config"]["layers"].as_array().or_else(|| inner["config"].as_array());
    for layer in layers.into_iter().flatten() {
        collect(layer, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epsilons_are_found_in_models_within_models() {
        let norm = |name: &str, rest: &str| {
            format!(r#"{{"class_name":"BatchNormalization","config":{{"name":"{name}"{rest}}}}}"#)
        };
        let inner = format!(
            r#"{{"class_name":"Functional","config":{{"name":"base","layers":[{},{}]}}}}"#,
            norm("a", r#","epsilon":0.5"#),
            norm("b", "")
        );
        let json = format!(r#"{{"class_name":"Sequential","config":{{"layers":[{inner}]}}}}"#);
        let expected = vec![("a".to_string(), 0.5), ("b".to_string(), 1e-3)];
        assert_eq!(epsilons(&json), expected);
        assert_eq!(epsilons(&format!(r#"{{"model_config":{json}}}"#)), expected);
        for bad in ["", "7", "{", "[[]]", &"[".repeat(100_000), &norm("a", r#","epsilon":-1"#)] {
            assert_eq!(epsilons(bad), []);
        }
    }
}
