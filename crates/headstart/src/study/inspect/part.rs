//! A check of one part of a data set's images, whose findings follow from those of all parts.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{Facts, Inspection, Member, findings, look_each, parts, pool};
use crate::control::Control;
use crate::data::alike::Look;
use crate::data::dataset::{Dataset, Skipped};
use crate::error::{Error, Result};

/// What is known of one image after it was looked at.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Looked {
    /// It can be read.
    Image {
        /// Path, as [`Member::name`] has it.
        name: String,
        /// Name of its class.
        class: String,
        /// "train", "validation" or "test".
        split: String,
        /// Height and width.
        size: (usize, usize),
        /// Position in its split.
        position: usize,
        /// The format of a file whose name claims another.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wrong: Option<String>,
        /// What it is compared by, in base64.
        look: String,
    },
    /// It cannot be read.
    Unreadable {
        /// Path.
        unreadable: String,
        /// Why.
        reason: String,
    },
}

impl Looked {
    fn of(result: std::result::Result<Facts, Skipped>) -> Looked {
        match result {
            Ok(Facts { member, look, wrong }) => {
                let Member { name, class, split, size, position } = member;
                let (split, look) = (split.to_string(), STANDARD.encode(look.to_bytes()));
                Looked::Image { name, class, split, size, position, wrong, look }
            }
            Err(Skipped { name, reason }) => Looked::Unreadable { unreadable: name, reason },
        }
    }
}

/// Looks at the images at these positions among those of all splits ([`super::images`]); `each` gets some of them at a time, in
/// order, and says whether to continue.
///
/// # Errors
/// If the threads cannot start, or `each` fails.
pub fn look(
    data: &Dataset,
    threads: usize,
    wanted: Range<usize>,
    each: &mut dyn FnMut(Vec<Looked>) -> Result<Control>,
) -> Result<Control> {
    let pool = pool(threads)?;
    look_each(data, &pool, wanted, &mut |looked| each(looked.into_iter().map(Looked::of).collect()))
}

/// The findings of [`super::inspect`] from what [`look`] gave of all images, in order.
///
/// # Errors
/// If it is not of these images, or the threads cannot start.
pub fn conclude(data: &Dataset, threads: usize, all: Vec<Looked>) -> Result<Inspection> {
    let (mut facts, mut unreadable) = (Vec::new(), data.skipped.clone());
    for one in all {
        match one {
            Looked::Image { name, class, split, size, position, wrong, look } => {
                let part = parts(data)
                    .into_iter()
                    .find(|(own, subset)| *own == split && position < subset.len());
                let bytes = STANDARD.decode(look).ok();
                let look = bytes.and_then(|bytes| Look::of_bytes(&bytes));
                let (Some((split, _)), Some(look)) = (part, look) else {
                    let expected = format!("an image of {}", data.name);
                    return Err(Error::invalid("row of a part", expected, name, ""));
                };
                let member = Member { name, class, split, size, position };
                facts.push(Facts { member, look, wrong });
            }
            Looked::Unreadable { unreadable: name, reason } => {
                unreadable.push(Skipped { name, reason });
            }
        }
    }
    Ok(findings(data, &pool(threads)?, facts, unreadable))
}
