//! What EC2 announces: interruptions, rebalance recommendations and changes of
//! state, from an SQS queue that `EventBridge` feeds.
//!
//! One task per queue long-polls it, keeps what it says of instances and makes
//! the fleet it concerns look at once. A message is deleted once it is taken
//! in. One that is no event of EC2 is left where it is: if the queue is another
//! one than was meant, nothing of it may be lost.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message};
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use windlass_policies::model::{FleetError, InstanceId, Notice};
use windlass_policies::units::Timestamp;

use super::errors::{Call, fleet_error};

/// EC2 takes a spot instance back two minutes after it has said so.
const INTERRUPTION_NOTICE: Duration = Duration::from_mins(2);

/// How long an interruption is kept after its time: by then no listing shows
/// the instance.
const KEPT_AFTER_END: Duration = Duration::from_mins(15);

/// How long a recommendation is kept: it names no time, and after a day EC2
/// has either acted or thought better of it.
const REBALANCE_KEPT: Duration = Duration::from_hours(24);

/// Ten times what a large region loses at once; beyond it the oldest go.
const NOTICES_MAX: usize = 20_000;

/// No event of EC2 is longer than a kilobyte.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The longest time SQS waits for a message is 20 s; half of that stays below
/// the usual timeouts.
const WAIT_SECS: i32 = 10;

/// Between attempts at a queue that does not answer.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// As long as a cycle takes: then the listing tells as much.
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// What a queue has said of instances.
pub struct Notices {
    kept: RefCell<BTreeMap<InstanceId, Notice>>,
    watchers: RefCell<Vec<Watcher>>,
    task: RefCell<Option<AbortHandle>>,
}

/// Who is to look when something is said of one of its instances.
struct Watcher {
    owns: Box<dyn Fn(&InstanceId) -> bool>,
    nudge: Arc<Notify>,
}

impl fmt::Debug for Notices {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Notices")
            .field("kept", &self.kept.borrow().len())
            .finish_non_exhaustive()
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        if let Some(task) = self.task.borrow_mut().take() {
            task.abort();
        }
    }
}

impl Notices {
    /// Nothing said yet, and nobody listening: see [`Notices::listen`].
    pub fn new() -> Self {
        Self {
            kept: RefCell::default(),
            watchers: RefCell::default(),
            task: RefCell::default(),
        }
    }

    /// Listens to the queue at `url` from now on. Must be called on a
    /// `LocalSet`; the task ends with the last owner of what is returned.
    pub fn listen(sqs: aws_sdk_sqs::Client, url: String) -> Rc<Self> {
        let notices = Rc::new(Self::new());
        let heard = Rc::downgrade(&notices);
        let task = tokio::task::spawn_local(async move {
            let mut pause = PAUSE_MIN;
            loop {
                let received = receive(&sqs, &url).await;
                let Some(notices) = heard.upgrade() else {
                    return;
                };
                match received {
                    Ok(messages) => {
                        if pause > PAUSE_MIN {
                            info!(queue = %url, "the queue of notices answers again");
                        }
                        pause = PAUSE_MIN;
                        let done = notices.take_in_all(&messages, crate::clock::now());
                        drop(notices);
                        delete(&sqs, &url, &done).await;
                    }
                    Err(error) => {
                        if pause == PAUSE_MIN {
                            warn!(queue = %url, %error, "no notices: the queue cannot be read");
                        }
                        drop(notices);
                        sleep(pause).await;
                        pause = (pause * 2).min(PAUSE_MAX);
                    }
                }
            }
        });
        *notices.task.borrow_mut() = Some(task.abort_handle());
        notices
    }

    /// Has `nudge` woken when something is said of an instance that `owns`
    /// knows.
    pub fn watch(&self, owns: Box<dyn Fn(&InstanceId) -> bool>, nudge: Arc<Notify>) {
        self.watchers.borrow_mut().push(Watcher { owns, nudge });
    }

    /// What was said of `instance` that still holds.
    pub fn of(&self, instance: &InstanceId, now: Timestamp) -> Option<Notice> {
        let notice = self.kept.borrow().get(instance).copied()?;
        (!is_over(notice, now)).then_some(notice)
    }

    /// Takes in messages, and gives the receipts of those that are done with.
    fn take_in_all(&self, messages: &[Message], now: Timestamp) -> Vec<String> {
        self.kept
            .borrow_mut()
            .retain(|_, notice| !is_over(*notice, now));
        let mut done = Vec::new();
        for message in messages {
            match read_event(message.body().unwrap_or("")) {
                Ok(event) => {
                    self.take_in(&event);
                    done.extend(message.receipt_handle().map(str::to_owned));
                }
                Err(why) => warn!(
                    message = message.message_id().unwrap_or("?"),
                    why, "not an event of EC2, so it is left in the queue of notices"
                ),
            }
        }
        done
    }

    /// Takes in one event. Saying it twice is harmless.
    fn take_in(&self, event: &Event) {
        debug!(instance = %event.instance, said = ?event.said, "EC2 has announced something");
        if let Said::Notice(notice) = event.said {
            let mut kept = self.kept.borrow_mut();
            let before = kept.get(&event.instance).copied();
            // A recommendation that comes late does not hide the end.
            if !matches!(
                (before, notice),
                (Some(Notice::Interruption { .. }), Notice::Rebalance { .. })
            ) {
                kept.insert(event.instance.clone(), notice);
            }
            while kept.len() > NOTICES_MAX {
                let oldest = kept.iter().min_by_key(|(_, notice)| said_at(**notice));
                let Some(oldest) = oldest.map(|(id, _)| id.clone()) else {
                    break;
                };
                kept.remove(&oldest);
            }
        }
        for watcher in &*self.watchers.borrow() {
            if (watcher.owns)(&event.instance) {
                watcher.nudge.notify_one();
            }
        }
    }
}

impl Default for Notices {
    fn default() -> Self {
        Self::new()
    }
}

/// When a notice was said, about.
fn said_at(notice: Notice) -> Timestamp {
    match notice {
        Notice::Rebalance { at } => at,
        Notice::Interruption { ends_at } => ends_at - INTERRUPTION_NOTICE,
    }
}

fn is_over(notice: Notice, now: Timestamp) -> bool {
    match notice {
        Notice::Rebalance { at } => now.since(at) > REBALANCE_KEPT,
        Notice::Interruption { ends_at } => now.since(ends_at) > KEPT_AFTER_END,
    }
}

async fn receive(sqs: &aws_sdk_sqs::Client, url: &str) -> Result<Vec<Message>, FleetError> {
    let answer = sqs
        .receive_message()
        .queue_url(url)
        .max_number_of_messages(10)
        .wait_time_seconds(WAIT_SECS)
        .send()
        .await
        .map_err(|error| fleet_error(Call::Reads, &error))?;
    Ok(answer.messages.unwrap_or_default())
}

/// Deletes what was taken in. What is not deleted comes again, which is harmless.
async fn delete(sqs: &aws_sdk_sqs::Client, url: &str, receipts: &[String]) {
    let entries: Vec<_> = receipts
        .iter()
        .enumerate()
        .filter_map(|(index, receipt)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(receipt)
                .build()
                .ok()
        })
        .collect();
    if entries.is_empty() {
        return;
    }
    let call = sqs.delete_message_batch().queue_url(url);
    if let Err(error) = call.set_entries(Some(entries)).send().await {
        let error = fleet_error(Call::Changes, &error);
        warn!(queue = %url, %error, "notices that were taken in could not be deleted");
    }
}

/// An event of EC2 that concerns an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    instance: InstanceId,
    said: Said,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Notice(Notice),
    /// It has changed its state; a listing says to what.
    Changed,
}

/// Reads an event as `EventBridge` writes it.
fn read_event(body: &str) -> Result<Event, &'static str> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Envelope {
        source: String,
        detail_type: String,
        time: String,
        detail: Detail,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Detail {
        instance_id: String,
    }
    if body.len() > BODY_BYTES_MAX {
        return Err("it is too long");
    }
    let event: Envelope = serde_json::from_str(body).map_err(|_| "it has not their shape")?;
    if event.source != "aws.ec2" {
        return Err("its source is another service");
    }
    let name = &event.detail.instance_id;
    let hex = |byte: u8| byte.is_ascii_hexdigit();
    if !name
        .strip_prefix("i-")
        .is_some_and(|rest| (8..=32).contains(&rest.len()) && rest.bytes().all(hex))
    {
        return Err("it names no instance");
    }
    let at = Timestamp::parse(&event.time).map_err(|_| "it has no time")?;
    let said = match event.detail_type.as_str() {
        "EC2 Spot Instance Interruption Warning" => Said::Notice(Notice::Interruption {
            ends_at: at + INTERRUPTION_NOTICE,
        }),
        "EC2 Instance Rebalance Recommendation" => Said::Notice(Notice::Rebalance { at }),
        "EC2 Instance State-change Notification" => Said::Changed,
        _ => return Err("it is of a kind that concerns no fleet"),
    };
    Ok(Event {
        instance: InstanceId::new(name),
        said,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(kind: &str, instance: &str) -> String {
        format!(
            r#"{{"version":"0","id":"e1","detail-type":"{kind}","source":"aws.ec2",
                "account":"123456789012","time":"2026-03-01T12:00:00Z","region":"eu-west-1",
                "resources":["arn:aws:ec2:eu-west-1:123456789012:instance/{instance}"],
                "detail":{{"instance-id":"{instance}","instance-action":"terminate"}}}}"#
        )
    }

    const SPOT: &str = "EC2 Spot Instance Interruption Warning";
    const REBALANCE: &str = "EC2 Instance Rebalance Recommendation";
    const CHANGE: &str = "EC2 Instance State-change Notification";
    const ID: &str = "i-0123456789abcdef0";

    fn noon() -> Timestamp {
        Timestamp::parse("2026-03-01T12:00:00Z").expect("a time")
    }

    fn message(body: &str) -> Message {
        Message::builder().body(body).receipt_handle("r").build()
    }

    #[test]
    fn each_kind_of_event_is_read() {
        let ends_at = noon() + Duration::from_mins(2);
        for (kind, said) in [
            (SPOT, Said::Notice(Notice::Interruption { ends_at })),
            (REBALANCE, Said::Notice(Notice::Rebalance { at: noon() })),
            (CHANGE, Said::Changed),
        ] {
            let event = read_event(&body(kind, ID)).expect(kind);
            assert_eq!((event.instance.as_str(), event.said), (ID, said));
        }
    }

    #[test]
    fn what_is_no_event_of_ec2_is_left_in_the_queue() {
        let other = body(SPOT, ID).replace("aws.ec2", "aws.s3");
        for body in [
            "",
            "{}",
            "{\"job\": 7}",
            &other,
            &body("EC2 Fleet Error", ID),
            &body(SPOT, "i-../../etc"),
            &body(SPOT, "vol-0123456789abcdef0"),
            &body(SPOT, ID).replace("2026-03-01T", "yesterday "),
            &"x".repeat(BODY_BYTES_MAX + 1),
        ] {
            let notices = Notices::new();
            assert!(
                notices.take_in_all(&[message(body)], noon()).is_empty(),
                "{body}"
            );
            assert_eq!(notices.of(&InstanceId::new(ID), noon()), None);
        }
    }

    #[test]
    fn a_notice_is_kept_for_as_long_as_it_matters_and_wakes_its_fleet_only() {
        let notices = Notices::new();
        let (ours, others) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        notices.watch(Box::new(|id| id.as_str() == ID), Arc::clone(&ours));
        notices.watch(Box::new(|_| false), Arc::clone(&others));
        let messages = [message(&body(SPOT, ID)), message(&body(REBALANCE, ID))];
        assert_eq!(notices.take_in_all(&messages, noon()).len(), 2);
        let id = InstanceId::new(ID);
        let ends_at = noon() + Duration::from_mins(2);
        let interruption = Some(Notice::Interruption { ends_at });
        assert_eq!(
            notices.of(&id, noon()),
            interruption,
            "not hidden by the later one"
        );
        assert_eq!(notices.of(&id, ends_at + KEPT_AFTER_END), interruption);
        assert_eq!(notices.of(&id, ends_at + KEPT_AFTER_END * 2), None);
        crate::aws::testing::with_runtime(async {
            let woken = |nudge: Arc<Notify>| async move {
                tokio::time::timeout(Duration::from_millis(1), nudge.notified())
                    .await
                    .is_ok()
            };
            assert!(woken(ours).await);
            assert!(!woken(others).await);
        });
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_go() {
        let notices = Notices::new();
        for serial in 0..NOTICES_MAX + 10 {
            let at = noon() + Duration::from_millis(u64::try_from(serial).expect("small"));
            notices.take_in(&Event {
                instance: InstanceId::new(&format!("i-{serial:017x}")),
                said: Said::Notice(Notice::Rebalance { at }),
            });
        }
        assert_eq!(notices.kept.borrow().len(), NOTICES_MAX);
        let first = InstanceId::new(&format!("i-{:017x}", 0));
        assert_eq!(notices.of(&first, noon()), None);
    }
}
