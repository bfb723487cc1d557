//! What Auto Scaling does that the local servers do not: instances that a group
//! shows late and that boot for a while, listings that are old, refreshes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Answer;
use super::call::Call;
use super::world::History;
use super::xml;

/// How Auto Scaling behaves here. All times are real ones, scaled by the test.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// How long a new instance is in no listing of its group.
    pub(crate) hidden: Duration,
    /// How long it is `Pending` from then on.
    pub(crate) boot: Duration,
    /// Whether an instance refresh is in progress.
    pub(crate) refreshing: bool,
    /// When the server first showed an instance, by its id.
    seen: BTreeMap<String, Instant>,
    history: History<Answer>,
}

impl Groups {
    /// The server's listing of groups as Auto Scaling would tell it.
    pub(crate) fn listing(
        &mut self,
        call: &Call,
        answer: Answer,
        stale: bool,
        now: Instant,
    ) -> Answer {
        if !answer.is_good() {
            return answer;
        }
        let text = xml::mapped(&answer.text(), "Instances", |members| {
            xml::elements(members, "member")
                .into_iter()
                .filter_map(|member| self.shown(member, now))
                .collect()
        });
        self.history.told(call, answer.with_text(text), stale)
    }

    /// An instance as its group shows it now, if it does.
    fn shown(&mut self, member: &str, now: Instant) -> Option<String> {
        let id = xml::content(member, "InstanceId")?;
        let since = now - *self.seen.entry(id.to_owned()).or_insert(now);
        if since < self.hidden {
            return None;
        }
        let boots = since < self.hidden + self.boot;
        let member = if boots {
            xml::with_content(member, "LifecycleState", "Pending")
        } else {
            member.to_owned()
        };
        Some(format!("<member>{member}</member>"))
    }

    /// The newest instance refresh, of which moto knows nothing.
    pub(crate) fn refreshes(&self) -> Answer {
        let newest = if self.refreshing {
            "<member><InstanceRefreshId>r</InstanceRefreshId><Status>InProgress</Status></member>"
        } else {
            ""
        };
        Answer::xml(format!(
            "<DescribeInstanceRefreshesResponse \
             xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\">\
             <DescribeInstanceRefreshesResult><InstanceRefreshes>{newest}</InstanceRefreshes>\
             </DescribeInstanceRefreshesResult></DescribeInstanceRefreshesResponse>"
        ))
    }
}
