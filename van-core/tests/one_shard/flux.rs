//! One shard, a client, and a consumer that takes its stream but whose answer is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use van_core::amqp::DeliveryState;
use van_core::plane::Routes;
use van_routing::{Table, Topology};

use crate::tally::Router;

const RETRY: Duration = Duration::from_millis(250);
const FLUX: Duration = Duration::from_secs(3);

/// The same routes, by paths that were computed anew.
fn computed_anew(routes: &Routes) -> Routes {
    let Routes { id, node, shards, addresses, locals, edges, .. } = routes;
    let table = Table::new(id.clone(), Topology::new([]), BTreeMap::new()).into();
    let (id, node, addresses, locals, edges) =
        (id.clone(), node.clone(), Arc::clone(addresses), Arc::clone(locals), Arc::clone(edges));
    let (next_hops, programs) = (BTreeMap::new(), [].into());
    Routes { id, node, shards: *shards, table, next_hops, addresses, locals, edges, uplink: None, edge: None, programs }
}

#[test]
fn a_client_whose_answer_is_lost_is_offered_again_while_routes_change_and_no_longer() {
    let mut router = Router::new();
    router.take(10);
    let routes = computed_anew(router.core.routes());
    router.plane.set_routes(&mut router.world, router.now, routes.into());
    router.receiver.answer_begun = Some(DeliveryState::FAILED);
    let stream = router.plane.add_client("q".into());
    router.plane.offer(&mut router.world, stream);
    router.settle();
    assert_eq!((router.receiver.begun, router.world.closed.len()), (1, 0));
    router.pass(RETRY);
    router.settle();
    assert_eq!((router.receiver.begun, router.world.closed.len()), (2, 0));
    router.pass(FLUX);
    router.settle();
    assert_eq!((router.receiver.begun, &*router.world.closed), (3, &[stream][..]));
}
