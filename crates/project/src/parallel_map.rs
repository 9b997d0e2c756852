//! Applies a function to many items on all processors.

use std::num::NonZero;
use std::thread;

/// Minimum number of items for each thread, because starting a thread costs time.
const SMALLEST_SHARE: usize = 64;

/// Applies a function to every item, and returns the results in the order of the items.
pub fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let size = items.len().div_ceil(threads).max(SMALLEST_SHARE);
    let on_share = &|share: &[T]| share.iter().map(&work).collect::<Vec<R>>();
    if items.len() <= size {
        return on_share(items);
    }
    thread::scope(|scope| {
        let share_of = |share| scope.spawn(move || on_share(share));
        let started: Vec<_> = items.chunks(size).map(share_of).collect();
        let results = started
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        results.flatten().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::map;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        for count in [0_usize, 1, 64, 65, 1000] {
            let items: Vec<usize> = (0..count).collect();
            let doubled: Vec<usize> = items.iter().map(|item| item * 2).collect();
            assert_eq!(map(&items, |item| item * 2), doubled);
        }
    }
}
