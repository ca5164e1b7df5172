//! A part of work that many jobs do, each without the others: which part, and by which scheduler.
//!
//! ```
//! use headstart::shard::Shard;
//!
//! let third: Shard = "3/16".parse()?; // the third of sixteen parts
//! assert_eq!(third.range(100), 12..18);
//! # Ok::<(), headstart::Error>(())
//! ```

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::train::collective::share;

pub use crate::export::parts::MOST;

/// One of several parts of the same size, to within one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its number, from 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl Shard {
    fn new(number: usize, of: usize) -> Option<Shard> {
        ((1..=of).contains(&number) && of <= MOST).then_some(Shard { number, of })
    }

    /// Those of `count` things that belong to it: contiguous, in order.
    pub fn range(self, count: usize) -> Range<usize> {
        share(count, self.number - 1, self.of)
    }

    /// `3/16`; or `auto`, or `auto/16`, of the scheduler whose variables `get` gives: `SLURM_ARRAY_TASK_ID` with its first, last and
    /// count; `JOB_COMPLETION_INDEX` of a Kubernetes job and `AWS_BATCH_JOB_ARRAY_INDEX`, from 0, which do not say how many there
    /// are.
    ///
    /// # Errors
    /// If it is none of these, or the variables are not there.
    pub fn of(text: &str, get: &dyn Fn(&str) -> Option<String>) -> Result<Shard> {
        let bad = |found: String, hint: &str| {
            let expected = "K/N with K from 1 to N, auto or auto/N";
            Err(Error::invalid("shard", expected, found, hint))
        };
        let (number, of) = match text.split_once('/') {
            Some((number, of)) => (number, Some(of)),
            None => (text, None),
        };
        let of = match of.map(str::parse::<usize>) {
            Some(Err(_)) => return bad(text.to_string(), "3/16 is the third of sixteen parts"),
            other => other.and_then(Result::ok),
        };
        if number != "auto" {
            let shard = number.parse().ok().zip(of).and_then(|(k, n)| Shard::new(k, n));
            return match shard {
                Some(shard) => Ok(shard),
                None => bad(text.to_string(), "3/16 is the third of sixteen parts"),
            };
        }
        let variable = |name: &str| get(name)?.trim().parse::<usize>().ok();
        let (index, count, by) = if let Some(id) = variable("SLURM_ARRAY_TASK_ID") {
            let first = variable("SLURM_ARRAY_TASK_MIN").unwrap_or(1);
            let step = variable("SLURM_ARRAY_TASK_STEP").unwrap_or(1).max(1);
            let count = variable("SLURM_ARRAY_TASK_COUNT");
            // Some jobs of an array that are started again count from another first one.
            if let (Some(of), Some(count)) = (of, count.filter(|&count| Some(count) != of)) {
                let hint = "start all jobs of the array, or name the part: --shard 3/16";
                return bad(format!("auto/{of} in an array of {count} jobs"), hint);
            }
            let index = id.checked_sub(first).map(|i| i / step);
            (index, count, "SLURM_ARRAY_TASK_ID")
        } else if let Some(index) = variable("JOB_COMPLETION_INDEX") {
            (Some(index), None, "JOB_COMPLETION_INDEX")
        } else if let Some(index) = variable("AWS_BATCH_JOB_ARRAY_INDEX") {
            (Some(index), None, "AWS_BATCH_JOB_ARRAY_INDEX")
        } else {
            let hint = "outside of an array of jobs give the part as K/N";
            return bad(
                "auto, without SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX or AWS_BATCH_JOB_ARRAY_INDEX"
                    .to_string(),
                hint,
            );
        };
        let Some(of) = of.or(count) else {
            let hint = "say how many jobs there are: --shard auto/16";
            return bad(format!("auto, with {by} alone"), hint);
        };
        match index.and_then(|index| Shard::new(index + 1, of)) {
            Some(shard) => Ok(shard),
            None => {
                let hint = "start all jobs of the array, or name the part: --shard 3/16";
                bad(format!("{text}, with {by} for another number of parts"), hint)
            }
        }
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Shard> {
        Shard::of(text, &|name| std::env::var(name).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, variables: &[(&str, &str)]) -> Result<Shard> {
        Shard::of(text, &|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn parts_are_counted_from_one_and_cover_all() {
        let shard = of("3/16", &[]).unwrap();
        assert_eq!((shard, shard.to_string()), (Shard { number: 3, of: 16 }, "3/16".to_string()));
        let mut next = 0;
        for number in 1..=7 {
            let range = Shard { number, of: 7 }.range(100);
            assert_eq!(range.start, next);
            next = range.end;
        }
        assert_eq!(next, 100);
        for bad in ["0/4", "5/4", "4", "", "/", "1/0", "-1/4", "a/4", "1/4/4", "1/9999999999"] {
            assert!(of(bad, &[]).is_err(), "{bad}");
        }
    }

    #[test]
    fn schedulers_are_understood() {
        let slurm = [
            ("SLURM_ARRAY_TASK_ID", "7"),
            ("SLURM_ARRAY_TASK_MIN", "1"),
            ("SLURM_ARRAY_TASK_STEP", "2"),
            ("SLURM_ARRAY_TASK_COUNT", "5"),
        ];
        assert_eq!(of("auto", &slurm).unwrap(), Shard { number: 4, of: 5 });
        // One of sixteen, started again.
        let one = [
            ("SLURM_ARRAY_TASK_ID", "7"),
            ("SLURM_ARRAY_TASK_MIN", "7"),
            ("SLURM_ARRAY_TASK_COUNT", "1"),
        ];
        assert!(of("auto/16", &one).unwrap_err().hint().unwrap().contains("--shard 3/16"));
        let two = [
            ("SLURM_ARRAY_TASK_ID", "7"),
            ("SLURM_ARRAY_TASK_MIN", "3"),
            ("SLURM_ARRAY_TASK_COUNT", "2"),
        ];
        assert!(of("auto", &two).unwrap_err().hint().unwrap().contains("--shard 3/16"));
        let zero = [("SLURM_ARRAY_TASK_ID", "0"), ("SLURM_ARRAY_TASK_MIN", "0")];
        assert_eq!(of("auto/4", &zero).unwrap(), Shard { number: 1, of: 4 });
        let job = [("JOB_COMPLETION_INDEX", "15")];
        assert_eq!(of("auto/16", &job).unwrap(), Shard { number: 16, of: 16 });
        assert!(of("auto", &job).unwrap_err().hint().unwrap().contains("auto/16"));
        assert!(of("auto/15", &job).is_err());
        let batch = [("AWS_BATCH_JOB_ARRAY_INDEX", "0")];
        assert_eq!(of("auto/2", &batch).unwrap(), Shard { number: 1, of: 2 });
        assert!(of("auto", &[]).unwrap_err().to_string().contains("JOB_COMPLETION_INDEX"));
    }
}
