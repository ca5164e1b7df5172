//! The published files: their addresses and hashes.
//!
//! Keras: `keras/src/applications/resnet.py` of Keras 3.15 (addresses and MD5). torchvision:
//! `torchvision/models/resnet.py` of torchvision 0.29 (addresses, whose names carry eight digits of the SHA-256, and
//! the default variant); the whole SHA-256 where two independent public records agree on it. timm: `timm/models/resnet.py`
//! of timm 1.0 (the address, whose name carries eight digits of the SHA-256; Apache-2.0). CIFAR-10: its
//! home page, <https://www.cs.toronto.edu/~kriz/cifar.html>.

use super::digest::{Algorithm, Digest};
use crate::error::{Error, Result};
use crate::nearest::did_you_mean;
use crate::net::resnet::Recipe;

/// A file that can be downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    /// Its name, also in the cache.
    pub file: String,
    /// Where it is published.
    pub url: String,
    /// What its bytes must hash to.
    pub digest: Digest,
    /// About how many bytes it has; the hash decides.
    pub size: u64,
    /// What it is.
    pub content: Content,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Weights of a net.
    Weights {
        /// Name of the net.
        model: String,
        /// Variant, which names the training they come from: "imagenet", or "imagenet-v1" and "imagenet-v2" where there are two.
        variant: String,
        /// Whether the head of 1000 classes is among them.
        top: bool,
    },
    /// A data set, by the name that `--data` takes.
    Data(String),
}

impl Content {
    /// The folder below the cache folder.
    pub fn folder(&self) -> &'static str {
        match self {
            Content::Weights { .. } => "weights",
            Content::Data(_) => "data",
        }
    }
}

const KERAS: &str = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/";
const TORCHVISION: &str = "https://download.pytorch.org/models/";
const TIMM: &str =
    "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-rsb-weights/";
/// The name that `--data` takes for CIFAR-10.
pub const CIFAR10: &str = "cifar10";
/// The weights that a net starts from by default.
pub const IMAGENET: &str = "imagenet";
const V1: &str = "imagenet-v1";
const V2: &str = "imagenet-v2";
/// The training A1 of "ResNet strikes back" (Wightman et al. 2021): timm's `resnet50.a1_in1k`.
const A1: &str = "imagenet-a1";
/// Names of published weights. What a net has of them is in [`weights`].
pub const VARIANTS: [&str; 4] = [IMAGENET, V1, V2, A1];

/// Net, MD5 with and without the top, sizes with and without it.
const KERAS_FILES: [(&str, [&str; 2], [u64; 2]); 6] = [
    (
        "resnet50",
        ["2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626"],
        [102_967_424, 94_765_736],
    ),
    (
        "resnet101",
        ["f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21"],
        [179_648_224, 171_446_536],
    ),
    (
        "resnet152",
        ["100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c"],
        [242_900_224, 234_698_864],
    ),
    (
        "resnet50v2",
        ["3ef43a0b657b3be2300d5770ece849e0", "fac2f116257151a9d068a22e544a4917"],
        [102_869_336, 94_668_760],
    ),
    (
        "resnet101v2",
        ["6343647c601c52e1368623803854d971", "c0ed64b8031c3730f411d2eb4eea35b5"],
        [179_518_384, 171_317_808],
    ),
    (
        "resnet152v2",
        ["a49b44d1979771252814e80f8ec446f9", "ed17cf2e0169df9d443503ef94b23b33"],
        [242_745_792, 234_545_216],
    ),
];

/// Net, variant, file, SHA-256, size. A net's default variant, torchvision's `DEFAULT`, is its last.
const TORCHVISION_FILES: [(&str, &str, &str, &str, u64); 9] = [
    (
        "torchvision-resnet18",
        V1,
        "resnet18-f37072fd.pth",
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
        46_830_571,
    ),
    (
        "torchvision-resnet34",
        V1,
        "resnet34-b627a593.pth",
        "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
        87_320_000,
    ),
    // As below, 32 bits.
    ("torchvision-resnet50", A1, "resnet50_a1_0-14fe96d1.pth", "14fe96d1", 102_547_000),
    (
        "torchvision-resnet50",
        V1,
        "resnet50-0676ba61.pth",
        "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
        102_530_333,
    ),
    (
        "torchvision-resnet50",
        V2,
        "resnet50-11ad3fa6.pth",
        "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca",
        102_540_417,
    ),
    (
        "torchvision-resnet101",
        V1,
        "resnet101-63fe2227.pth",
        "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a",
        178_794_000,
    ),
    (
        "torchvision-resnet101",
        V2,
        "resnet101-cd907fc2.pth",
        "cd907fc2a0de2292b2ba2b27d2216bc672d84632d1cf20058d01c0c03b5e020e",
        178_814_000,
    ),
    (
        "torchvision-resnet152",
        V1,
        "resnet152-394f9c45.pth",
        "394f9c45966e3651a89bbb78a48410a6755854ce4a5ab64927cf1c7247f85e58",
        241_628_000,
    ),
    // No public record of the whole hash was found: 32 bits guard against damage alone.
    ("torchvision-resnet152", V2, "resnet152-f82ba261.pth", "f82ba261", 241_669_000),
];

/// Every file, nets in their own order, data last.
pub fn all() -> Vec<Asset> {
    let mut list = Vec::new();
    for (model, digests, sizes) in KERAS_FILES {
        for (i, ending) in ["", "_notop"].into_iter().enumerate() {
            let file = format!("{model}_weights_tf_dim_ordering_tf_kernels{ending}.h5");
            list.push(Asset {
                url: format!("{KERAS}{file}"),
                file,
                digest: Digest::new(Algorithm::Md5, digests[i]),
                size: sizes[i],
                content: Content::Weights {
                    model: model.into(),
                    variant: IMAGENET.into(),
                    top: i == 0,
                },
            });
        }
    }
    for (model, variant, file, hex, size) in TORCHVISION_FILES {
        list.push(Asset {
            file: file.into(),
            url: format!("{}{file}", if variant == A1 { TIMM } else { TORCHVISION }),
            digest: Digest::new(Algorithm::Sha256, hex),
            size,
            content: Content::Weights { model: model.into(), variant: variant.into(), top: true },
        });
    }
    list.push(Asset {
        file: "cifar-10-binary.tar.gz".into(),
        url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz".into(),
        digest: Digest::new(Algorithm::Md5, "c32a1d4ab5d03f1284b67883e8d87530"),
        size: 170_052_171,
        content: Content::Data(CIFAR10.into()),
    });
    list
}

/// Whether `name` means published weights, rather than a file.
pub fn is_variant(name: &str) -> bool {
    VARIANTS.contains(&name)
}

/// The weights of `model`: those of the training `variant`, where [`IMAGENET`] means the net's default. Files
/// without the head of 1000 classes come first, and are left out if `top` is wanted.
///
/// # Errors
/// If there is no such net, it has no published weights, or none of that variant.
pub fn weights(model: &str, variant: &str, top: bool) -> Result<Vec<Asset>> {
    Recipe::named(model)?;
    let mut found: Vec<(Asset, String, bool)> = all()
        .into_iter()
        .filter_map(|asset| match &asset.content {
            Content::Weights { model: of, variant, top } if of == model => {
                let (variant, top) = (variant.clone(), *top);
                Some((asset, variant, top))
            }
            _ => None,
        })
        .collect();
    let Some((_, default, _)) = found.last() else {
        let names: Vec<&str> = KERAS_FILES
            .iter()
            .map(|row| row.0)
            .chain(TORCHVISION_FILES.iter().map(|row| row.0))
            .collect();
        let mut known = names.clone();
        known.dedup();
        return Err(Error::invalid(
            format!("weights {variant} of {model}"),
            format!("a net with published weights: {}", known.join(", ")),
            model,
            "give a weight file, or --weights none for a random initialisation",
        ));
    };
    let wanted = if variant == IMAGENET { default.clone() } else { variant.to_string() };
    if !found.iter().any(|(_, of, _)| *of == wanted) {
        let mut names: Vec<&str> = found.iter().map(|(_, of, _)| of.as_str()).collect();
        names.dedup();
        if !names.contains(&IMAGENET) {
            names.insert(0, IMAGENET);
        }
        return Err(Error::invalid(
            format!("weights of {model}"),
            names.join(" or "),
            variant,
            did_you_mean(variant, names.iter().copied()),
        ));
    }
    found.retain(|(_, of, has_top)| *of == wanted && (*has_top || !top));
    found.sort_by_key(|(_, _, has_top)| *has_top);
    Ok(found.into_iter().map(|(asset, _, _)| asset).collect())
}

/// The data set of that name, if it is one that can be downloaded.
pub fn data(name: &str) -> Option<Asset> {
    all().into_iter().find(|asset| matches!(&asset.content, Content::Data(of) if of == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_one_name_an_address_that_ends_in_it_and_a_hash() {
        let list = all();
        assert_eq!(list.len(), 22);
        for (i, asset) in list.iter().enumerate() {
            assert!(asset.url.starts_with("https://") && asset.url.ends_with(&asset.file));
            assert!(list[..i].iter().all(|other| other.file != asset.file), "{}", asset.file);
            let digits = asset.digest.hex.len();
            match asset.digest.algorithm {
                Algorithm::Md5 => assert_eq!(digits, 32),
                Algorithm::Sha256 => assert!(digits == 64 || digits == 8),
            }
            // A hash in part is an exception that docs/weights.md names.
            let known_in_part =
                ["resnet152-f82ba261.pth", "resnet50_a1_0-14fe96d1.pth"].contains(&&*asset.file);
            assert_eq!(asset.digest.is_whole(), !known_in_part, "{}", asset.file);
            assert!(asset.digest.hex.bytes().all(|b| b.is_ascii_hexdigit()));
            // torchvision's names carry the first eight digits.
            if let Some((_, rest)) = asset.file.split_once('-')
                && let Some(prefix) = rest.strip_suffix(".pth")
            {
                assert_eq!(prefix, &asset.digest.hex[..8]);
            }
            if let Content::Weights { model, .. } = &asset.content {
                Recipe::named(model).unwrap();
            }
        }
    }

    #[test]
    fn the_file_suits_what_it_is_for() {
        let names = |model: &str, variant: &str, top| -> Vec<String> {
            weights(model, variant, top).unwrap().into_iter().map(|a| a.file).collect()
        };
        assert_eq!(
            names("resnet50", "imagenet", false),
            [
                "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
                "resnet50_weights_tf_dim_ordering_tf_kernels.h5"
            ]
        );
        assert_eq!(
            names("resnet101v2", "imagenet", true),
            ["resnet101v2_weights_tf_dim_ordering_tf_kernels.h5"]
        );
        assert_eq!(names("torchvision-resnet18", "imagenet", false), ["resnet18-f37072fd.pth"]);
        assert_eq!(names("torchvision-resnet50", "imagenet", true), ["resnet50-11ad3fa6.pth"]);
        assert_eq!(names("torchvision-resnet50", "imagenet-v1", true), ["resnet50-0676ba61.pth"]);
        let timm = names("torchvision-resnet50", "imagenet-a1", true);
        assert_eq!(timm, ["resnet50_a1_0-14fe96d1.pth"]);
        let error = weights("resnet50", "imagenet-v2", true).unwrap_err();
        assert!(error.to_string().contains("expected imagenet, found imagenet-v2"), "{error}");
        let error = weights("torchvision-resnet18", "imagenet-v2", true).unwrap_err();
        assert_eq!(error.hint(), Some("did you mean imagenet-v1, imagenet?"));
        assert!(
            weights("resnet20", "imagenet", true).unwrap_err().to_string().contains("published")
        );
        assert!(weights("resnet51", "imagenet", true).is_err());
        assert_eq!(data("cifar10").unwrap().file, "cifar-10-binary.tar.gz");
        assert!(data("cifar100").is_none());
    }
}
