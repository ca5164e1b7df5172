//! The best length of a step along which a convex loss and its derivatives are known: Newton's method between the ends of an interval
//! that holds it.

/// The derivative has to fall to this share.
const FLATTER: f64 = 0.1;
/// Lengths that are tried at most.
const TRIES: usize = 40;

/// A search.
#[derive(Clone, Debug)]
pub(super) struct Line {
    loss: f64,
    slope: f64,
    /// The penalty at length `t` is the sum of `penalty[0] + 2 t penalty[1] + t^2 penalty[2]`.
    penalty: [f64; 3],
    length: f64,
    /// The minimum is beyond this length, and before that one.
    low: f64,
    high: Option<f64>,
    best: Option<(f64, f64)>,
    tries: usize,
    done: bool,
}

impl Line {
    /// A search from where the loss, with its penalty, and its derivative by the length are these.
    pub fn new(loss: f64, slope: f64, penalty: [f64; 3]) -> Line {
        let done = !(slope < 0.0 && slope.is_finite());
        Line { loss, slope, penalty, length: 1.0, low: 0.0, high: None, best: None, tries: 0, done }
    }

    /// The length to be tried next.
    pub fn next(&self) -> Option<f64> {
        (!self.done).then_some(self.length)
    }

    /// Takes the loss without the penalty, its first and its second derivative at the length.
    pub fn take(&mut self, [loss, first, second]: [f64; 3]) {
        let (t, [none, one, two]) = (self.length, self.penalty);
        let loss = loss + none + 2.0 * t * one + t * t * two;
        let (slope, curve) = (first + 2.0 * (one + t * two), second + 2.0 * two);
        self.tries += 1;
        // Where the loss falls by less than its last digits, the derivative still tells.
        let room = 1e-13 * self.loss.abs();
        if loss <= self.loss + room && self.best.is_none_or(|(_, best)| loss <= best) {
            self.best = Some((t, loss));
        }
        let flat = slope.abs() <= FLATTER * self.slope.abs();
        if flat && loss <= self.loss + room {
            self.best = Some((t, loss));
            self.done = true;
        } else if self.tries == TRIES {
            self.done = true;
        }
        match loss.is_finite() && slope <= 0.0 {
            true => self.low = t,
            false => self.high = Some(t),
        }
        let newton = t - slope / curve;
        let inside = newton > self.low && self.high.is_none_or(|high| newton < high);
        self.length = match self.high {
            _ if inside && newton.is_finite() => newton,
            Some(high) => 0.5 * (self.low + high),
            None => 2.0 * t,
        };
    }

    /// The length that was found, and the loss there with its penalty; none if no length is better.
    pub fn best(&self) -> Option<(f64, f64)> {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The length found for a loss, given with its derivatives, and how many were tried.
    fn found(of: impl Fn(f64) -> [f64; 3], penalty: [f64; 3]) -> (Option<f64>, usize) {
        let [loss, slope, _] = of(0.0);
        let mut line = Line::new(loss + penalty[0], slope + 2.0 * penalty[1], penalty);
        let mut tries = 0;
        while let Some(t) = line.next() {
            line.take(of(t));
            tries += 1;
        }
        (line.best().map(|(t, _)| t), tries)
    }

    #[test]
    fn a_parabola_takes_two_tries_and_far_minima_are_reached() {
        let parabola = |at: f64| move |t: f64| [(t - at).powi(2), 2.0 * (t - at), 2.0];
        for at in [1e-3, 0.4, 1.0, 30.0] {
            let (length, tries) = found(parabola(at), [0.0; 3]);
            assert!((length.unwrap() - at).abs() <= 1e-9 && tries <= 2, "{at} {tries}");
        }
        // log(1 + exp(-t)) + 0.001 t^2: steep first, then nearly flat.
        let logistic = |t: f64| {
            let p = 1.0 / (1.0 + t.exp());
            [(1.0 + (-t).exp()).ln(), -p, p * (1.0 - p)]
        };
        let (length, tries) = found(logistic, [0.0, 0.0, 1e-3]);
        let slope = logistic(length.unwrap())[1] + 2e-3 * length.unwrap();
        assert!(slope.abs() <= 0.05 && tries < 10, "{length:?} {tries}");
    }

    #[test]
    fn uphill_and_what_is_no_number_has_no_length() {
        assert_eq!(found(|t| [t, 1.0, 0.0], [0.0; 3]), (None, 0));
        assert_eq!(found(|t| [-t, f64::NAN, 0.0], [0.0; 3]), (None, 0));
        let wall = |t: f64| if t > 0.0 { [f64::NAN; 3] } else { [0.0, -1.0, 1.0] };
        assert_eq!(found(wall, [0.0; 3]), (None, TRIES));
    }
}
