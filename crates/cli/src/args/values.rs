//! Numbers and times as flags take them: what is out of range is wrong usage, and the message says what is in range.

use std::time::Duration;

use headstart::config::Time;
use headstart::range::{self, Range};

/// Reads a whole number within `range`, for clap, which names the flag and what was found.
pub fn within<T: TryFrom<u64>>(
    range: Range,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|&number| range.contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| format!("expected {}", range.expected()))
    }
}

/// Images a step: a number, or as many as fit the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSize {
    /// `auto`.
    ThatFits,
    /// A number.
    Images(usize),
}

/// Reads a batch size, or `auto`.
pub fn batch_size(text: &str) -> Result<BatchSize, String> {
    match text {
        "auto" => Ok(BatchSize::ThatFits),
        _ => within(range::BATCH_SIZE)(text)
            .map(BatchSize::Images)
            .map_err(|message| format!("{message}, or auto")),
    }
}

/// Reads a time such as `20m` or `1h30m`.
pub fn budget(text: &str) -> Result<Duration, String> {
    text.parse().map(|Time(time)| time)
}

/// Reads seconds as a whole number, or a time with its unit, such as `5m`.
pub fn pause(text: &str) -> Result<Duration, String> {
    let allowed = range::SAVE_EVERY;
    let time = match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => text.parse().ok().map(|Time(time)| time),
    };
    let time = time.filter(|time| allowed.contains(time.as_secs()));
    time.ok_or_else(|| format!("expected {} of seconds, or a time such as 5m", allowed.expected()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_say_the_range() {
        let read = within::<usize>(range::THREADS);
        assert_eq!([read("0"), read("1024")], [Ok(0), Ok(1024)]);
        for bad in ["1025", "-1", "1.5", "", "18446744073709551616", "many"] {
            assert_eq!(read(bad), Err("expected a whole number from 0 to 1024".into()), "{bad}");
        }
    }

    #[test]
    fn a_pause_is_seconds_or_a_time() {
        for (text, seconds) in [("0", 0), ("300", 300), ("5m", 300), ("1h30m", 5400)] {
            assert_eq!(pause(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "-1", "5 x", "1.5", "1000000001"] {
            assert!(pause(text).unwrap_err().contains("0 to 1000000000 of seconds"), "{text}");
        }
    }
}
