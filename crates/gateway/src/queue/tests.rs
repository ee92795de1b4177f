//! Properties of the queue, over random sequences of arrivals, departures and calls.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    number: usize,
    /// 0 goes with nothing.
    kind: u8,
    rows: usize,
    bytes: usize,
}

impl Waits for Entry {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn goes_with(&self, other: &Self) -> bool {
        self.kind != 0 && self.kind == other.kind
    }
}

#[derive(Clone, Debug)]
enum Step {
    Arrives(u8, usize, usize),
    /// The so-manieth of those that wait.
    Leaves(usize),
    /// A place is free for entries that are not of this kind.
    Place(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..3, 1usize..20, 0usize..50).prop_map(|(k, r, b)| Step::Arrives(k, r, b)),
        1 => any::<usize>().prop_map(Step::Leaves),
        2 => (0u8..4).prop_map(Step::Place),
    ]
}

fn bounds() -> impl Strategy<Value = Bounds> {
    (1usize..8, 1usize..60, 1usize..150).prop_map(|(entries, rows, bytes)| Bounds {
        entries,
        rows,
        bytes,
    })
}

proptest! {
    #[test]
    fn what_goes_together_is_alike_in_order_and_within_bounds(
        steps in prop::collection::vec(step(), 0..80),
        bounds in bounds(),
    ) {
        let mut queue = Queue::default();
        // The entries that should be waiting, in order.
        let mut model: Vec<(Ticket, Entry)> = vec![];
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Arrives(kind, rows, bytes) => {
                    let entry = Entry { number, kind, rows, bytes };
                    model.push((queue.push(entry.clone()), entry));
                }
                Step::Leaves(which) if !model.is_empty() => {
                    let (ticket, entry) = model.remove(which % model.len());
                    prop_assert_eq!(queue.remove(ticket), Some(entry));
                    prop_assert_eq!(queue.remove(ticket), None);
                }
                Step::Leaves(_) => {}
                Step::Place(refused) => {
                    let first = model.iter().position(|(_, e)| e.kind != refused);
                    let taken = queue.take(bounds, |e| (e.kind != refused).then_some(e.number));
                    let Some(first) = first else {
                        prop_assert!(taken.is_none());
                        continue;
                    };
                    let (found, group) = taken.unwrap();
                    // The first that could go went, and it is what was chosen for.
                    prop_assert_eq!(&group[0], &model[first].1);
                    prop_assert_eq!(found, group[0].number);
                    // The others are like it, and those of its kind that waited next.
                    let like: Vec<Entry> = model[first + 1..]
                        .iter()
                        .map(|(_, e)| e.clone())
                        .filter(|e| group[0].goes_with(e))
                        .take(group.len() - 1)
                        .collect();
                    prop_assert_eq!(&group[1..], &like[..]);
                    let sum = |of: fn(&Entry) -> usize| group.iter().map(of).sum::<usize>();
                    if group.len() > 1 {
                        prop_assert!(group.len() <= bounds.entries);
                        prop_assert!(sum(|e| e.rows) <= bounds.rows);
                        prop_assert!(sum(|e| e.bytes) <= bounds.bytes);
                    }
                    model.retain(|(_, e)| !group.contains(e));
                    // Nothing stayed behind that still fitted.
                    let next = model.iter().map(|(_, e)| e).find(|e| {
                        e.number > group[0].number && group[0].goes_with(e)
                    });
                    if let Some(next) = next {
                        prop_assert!(
                            group.len() == bounds.entries
                                || sum(|e| e.rows) + next.rows > bounds.rows
                                || sum(|e| e.bytes) + next.bytes > bounds.bytes
                        );
                    }
                }
            }
            prop_assert_eq!(queue.len(), model.len());
            prop_assert_eq!(queue.is_empty(), model.is_empty());
            let bytes = model.iter().map(|(_, e)| e.bytes).sum::<usize>();
            prop_assert_eq!(queue.bytes(), bytes);
        }
    }
}

#[test]
fn who_has_waited_before_goes_first() {
    let entry = |number| Entry {
        number,
        kind: 0,
        rows: 1,
        bytes: 1,
    };
    let bounds = Bounds {
        entries: 1,
        rows: 1,
        bytes: 1,
    };
    let mut queue = Queue::default();
    queue.push(entry(1));
    queue.push_first(entry(2));
    let order: Vec<usize> =
        std::iter::from_fn(|| queue.take(bounds, |e| Some(e.number)).map(|(n, _)| n)).collect();
    assert_eq!(order, [2, 1]);
}

#[test]
fn the_lost_are_taken_and_the_others_keep_their_order() {
    let mut queue = Queue::default();
    for number in 0..6 {
        queue.push(Entry {
            number,
            kind: 0,
            rows: 1,
            bytes: 10,
        });
    }
    let lost: Vec<usize> = queue
        .remove_all(|e| e.number % 2 == 1)
        .iter()
        .map(|e| e.number)
        .collect();
    assert_eq!(lost, [1, 3, 5]);
    assert_eq!((queue.len(), queue.bytes()), (3, 30));
}
