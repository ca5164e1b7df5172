//! A length of time as people write it: `20m`, `1h30m`, `45s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::range;

/// A length of time, from a millisecond to a year; its text is that of flags and config.toml.
///
/// ```
/// use headstart::config::Time;
///
/// let time: Time = "1h30m".parse()?;
/// assert_eq!((time.0.as_secs(), time.to_string()), (5400, "1h30m".into()));
/// assert!("20".parse::<Time>().is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(pub Duration);

impl FromStr for Time {
    type Err = String;

    /// A number alone is refused: it could be minutes, seconds or hours.
    fn from_str(text: &str) -> Result<Time, String> {
        let most = range::BUDGET.most;
        let days = most / (24 * 3600);
        let mut expected = format!("expected a time from 1ms to {days}days, such as 20m or 1h30m");
        if text.parse::<f64>().is_ok_and(|n| n.is_finite() && n > 0.0) {
            expected += &format!("; {text}m is {text} minutes");
            return Err(expected);
        }
        let time = humantime::parse_duration(text).map_err(|e| format!("{expected}: {e}"))?;
        match (Duration::from_millis(1)..=Duration::from_secs(most)).contains(&time) {
            true => Ok(Time(time)),
            false => Err(expected),
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&humantime::format_duration(self.0).to_string().replace(' ', ""))
    }
}

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Time, String> {
        text.parse()
    }
}

impl From<Time> for String {
    fn from(time: Time) -> String {
        time.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_an_end() {
        let read = |text: &str| text.parse::<Time>();
        let text = read("20").unwrap_err();
        assert!(text.ends_with("such as 20m or 1h30m; 20m is 20 minutes"), "{text}");
        for bad in ["0s", "366days", "584542046090years", "99999999999999999999h", "soon", ""] {
            assert!(read(bad).unwrap_err().contains("1ms to 365days"), "{bad}");
        }
        for text in ["1h30m", "20m", "1500ms", "90s"] {
            let time = read(text).unwrap();
            assert_eq!(read(&time.to_string()), Ok(time), "{text}");
        }
    }
}
