//! The five services. Each is a plain state machine: a message in, messages out, no I/O.

mod inventory;
mod notification;
mod order;
mod payment;
mod shipping;

pub(crate) use inventory::Inventory;
pub(crate) use notification::Notification;
pub(crate) use order::OrderDesk;
pub(crate) use payment::{DECLINED_CARD, Payment};
pub(crate) use shipping::Shipping;

#[cfg(test)]
mod tests;
