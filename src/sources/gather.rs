//! Waiting for several things at once.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// What all of `futures` give, in their order. They run at the same time, on
/// the task of the caller: no one waits for another, and all end with it.
pub(super) async fn all<'a, T: 'a>(
    futures: impl Iterator<Item = impl Future<Output = T> + 'a>,
) -> Vec<T> {
    enum Slot<'a, T> {
        Waits(Pin<Box<dyn Future<Output = T> + 'a>>),
        Done(T),
    }
    let mut slots: Vec<Slot<'a, T>> = futures
        .map(|future| Slot::Waits(Box::pin(future)))
        .collect();
    poll_fn(|context| {
        let mut waits = false;
        for slot in &mut slots {
            if let Slot::Waits(future) = slot {
                match future.as_mut().poll(context) {
                    Poll::Ready(value) => *slot = Slot::Done(value),
                    Poll::Pending => waits = true,
                }
            }
        }
        if waits {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    let done = slots.into_iter().filter_map(|slot| match slot {
        Slot::Done(value) => Some(value),
        Slot::Waits(_) => None,
    });
    done.collect()
}
