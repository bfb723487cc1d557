//! Fleets on AWS, proved against servers that nobody here wrote: `ministack` and
//! `moto`, with a proxy in front that breaks things and counts calls.
//!
//! `tests/run` installs the servers. What really exists is asked by AWS's own
//! Python client, past the proxy and past windlass.

#![cfg(feature = "aws")]

#[path = "aws/calls_tests.rs"]
mod calls_tests;
#[path = "aws/churn_tests.rs"]
mod churn_tests;
#[path = "aws/cloud.rs"]
mod cloud;
#[path = "aws/codes_tests.rs"]
mod codes_tests;
#[path = "aws/daemon.rs"]
mod daemon;
#[path = "aws/fleet_tests.rs"]
mod fleet_tests;
#[path = "aws/group_tests.rs"]
mod group_tests;
#[path = "aws/judge.rs"]
mod judge;
#[path = "aws/log_tests.rs"]
mod log_tests;
#[path = "aws/metric_tests.rs"]
mod metric_tests;
#[path = "aws/permission_tests.rs"]
mod permission_tests;
#[path = "aws/price_tests.rs"]
mod price_tests;
#[path = "aws/proxy.rs"]
mod proxy;
#[path = "aws/proxy_tests.rs"]
mod proxy_tests;
#[path = "aws/server.rs"]
mod server;
#[path = "aws/spot_tests.rs"]
mod spot_tests;
#[path = "aws/worker_tests.rs"]
mod worker_tests;
