//! Numbers and times as flags take them: what is out of range is wrong usage, and the message says what is in range.

use std::time::Duration;

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

/// Reads a time such as `20m` or `1h30m`; a number alone is refused, as it could be minutes, seconds or hours.
pub fn budget(text: &str) -> Result<Duration, String> {
    let most = range::BUDGET.most;
    let days = most / (24 * 3600);
    let mut expected = format!("expected a time from 1ms to {days}days, such as 20m or 1h30m");
    if text.parse::<f64>().is_ok_and(|n| n.is_finite() && n > 0.0) {
        expected += &format!("; {text}m is {text} minutes");
        return Err(expected);
    }
    let time = humantime::parse_duration(text).map_err(|e| format!("{expected}: {e}"))?;
    match (Duration::from_millis(1)..=Duration::from_secs(most)).contains(&time) {
        true => Ok(time),
        false => Err(expected),
    }
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
    fn times_have_an_end() {
        assert_eq!(budget("1h30m"), Ok(Duration::from_secs(5400)));
        let text = budget("20").unwrap_err();
        assert!(text.ends_with("such as 20m or 1h30m; 20m is 20 minutes"), "{text}");
        for bad in ["0s", "366days", "584542046090years", "99999999999999999999h", "soon", ""] {
            assert!(budget(bad).unwrap_err().contains("1ms to 365days"), "{bad}");
        }
    }
}
