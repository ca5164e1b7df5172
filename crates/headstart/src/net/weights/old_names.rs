//! Layer names of ResNet-50 before Keras 2.2.5 (`res2a_branch2a`, `bn2a_branch2a`, `fc1000`), which older
//! `.h5` files and TensorFlow.js conversions have, and Caffe's for the deeper nets (`res4b12_branch2c`).

use super::{WeightFile, keras_config::DEFAULT_EPSILON};

/// The name since then, or none for a name that is not of that time.
fn modern(old: &str) -> Option<String> {
    match old {
        "conv1" => return Some("conv1_conv".into()),
        "bn_conv1" => return Some("conv1_bn".into()),
        "fc1000" => return Some("predictions".into()),
        _ => {}
    }
    let (kind, rest) = match (old.strip_prefix("res"), old.strip_prefix("bn")) {
        (Some(rest), _) => ("conv", rest),
        (_, Some(rest)) => ("bn", rest),
        _ => return None,
    };
    let (place, branch) = rest.split_once("_branch")?;
    let stage = place.get(..1)?.parse::<u32>().ok()?;
    let block = match place.get(1..)?.as_bytes() {
        [letter @ b'a'..=b'z'] => u32::from(letter - b'a') + 1,
        [b'b', number @ ..] => {
            std::str::from_utf8(number).ok()?.parse::<u32>().ok()?.checked_add(1)?
        }
        _ => return None,
    };
    let part = match branch {
        "1" => 0,
        "2a" => 1,
        "2b" => 2,
        "2c" => 3,
        _ => return None,
    };
    Some(format!("conv{stage}_block{block}_{part}_{kind}"))
}

/// Gives the tensors of such a file their present names. Where the file does not say its batch norms'
/// epsilon, it is Keras's default, which those nets had.
pub(super) fn modernise(file: &mut WeightFile) {
    if !file.tensors.iter().any(|t| t.name.starts_with("bn_conv1/")) {
        return;
    }
    file.epsilon = std::mem::take(&mut file.epsilon)
        .into_iter()
        .map(|(name, epsilon)| (modern(&name).unwrap_or(name), epsilon))
        .collect();
    for tensor in &mut file.tensors {
        let Some((layer, role)) = tensor.name.split_once('/') else { continue };
        let Some(layer) = modern(layer) else { continue };
        if role == "moving_variance" {
            file.epsilon.entry(layer.clone()).or_insert(DEFAULT_EPSILON);
        }
        tensor.name = format!("{layer}/{role}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_become_new_ones() {
        for (old, new) in [
            ("res2a_branch1", "conv2_block1_0_conv"),
            ("bn5c_branch2c", "conv5_block3_3_bn"),
            ("res4b22_branch2b", "conv4_block23_2_conv"),
            ("bn3b1_branch2a", "conv3_block2_1_bn"),
        ] {
            assert_eq!(modern(old).as_deref(), Some(new));
        }
        for other in ["res", "bn", "res2a_branch9", "resé_branch1", "res2A_branch1", "dense", ""] {
            assert_eq!(modern(other), None);
        }
    }
}
