//! What all fleets of a daemon share of AWS.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tracing::info;
use windlass_policies::reconcile::Mode;

use super::client::{AwsClients, ClientError};
use super::notices::Notices;
use super::region::Region;
use super::settings::AwsSettings;
use super::spot_prices::SpotPrices;
use crate::clock;

/// Clients, the region's listing and budget, and the queues of notices.
#[derive(Debug)]
pub struct Aws {
    /// The clients.
    pub clients: AwsClients,
    /// The region.
    pub region: Rc<Region>,
    /// What spot instances cost there.
    pub spot_prices: Rc<SpotPrices>,
    queues: RefCell<BTreeMap<String, Rc<Notices>>>,
}

impl Aws {
    /// Opens it as `settings` say; nothing is asked yet.
    ///
    /// # Errors
    /// If no region is found.
    pub async fn open(settings: &AwsSettings) -> Result<Self, ClientError> {
        let clients = AwsClients::open(settings).await?;
        let region = Rc::new(Region::new(clients.ec2.clone(), Box::new(clock::now)));
        Ok(Self {
            spot_prices: Rc::new(SpotPrices::new(Rc::clone(&region))),
            region,
            clients,
            queues: RefCell::default(),
        })
    }

    /// What the queue at `url` says, if there is one. Listens to it from the
    /// first time this is asked; must be called on a `LocalSet`. A rehearsal
    /// does not listen: a message that it takes is gone for whoever acts.
    pub fn notices(&self, url: Option<&str>, mode: Mode) -> Option<Rc<Notices>> {
        let url = url?;
        match mode {
            Mode::Act => {}
            Mode::Rehearse => {
                info!(queue = %url, "no notices are taken from the queue in a rehearsal");
                return None;
            }
        }
        let mut queues = self.queues.borrow_mut();
        let queue = queues
            .entry(url.to_owned())
            .or_insert_with(|| Notices::listen(self.clients.sqs.clone(), url.to_owned()));
        Some(Rc::clone(queue))
    }
}
