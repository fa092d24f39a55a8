//! nginx in front of the relay, as a trusted proxy that shares its connections to the relay among visitors.

use std::net::{IpAddr, Ipv4Addr};

use crate::logins::{LoginWorld, PROOF};
use crate::nginx::Nginx;
use crate::world::{Before, On, Speaks};

/// nginx connects from here to a relay at 127.0.0.1.
const NGINX: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Every request is answered 401, also behind a login on the same connection of nginx or of the agent.
pub(crate) async fn a_connection_login_fails_behind_a_proxy(on: On) {
    let mut world = LoginWorld::trusting(on, NGINX).await;
    let nginx = Nginx::start(world.front.proxies, Before::Nobody, Speaks::Http1);
    world.front = nginx.front;
    let mut visitors = [world.http1().await, world.http2().await, world.http1().await];
    for round in 0..3 {
        for (number, visitor) in visitors.iter_mut().enumerate() {
            visitor.begin_login().await;
            let proof = format!("{PROOF}user-{number}");
            assert_eq!(visitor.request(Some(&proof)).await, Err(String::new()), "{round}");
        }
        for visitor in &mut visitors {
            assert_eq!(visitor.request(None).await, Err(String::new()), "{round}");
        }
        assert_eq!(world.http1().await.request(None).await, Err(String::new()), "{round}");
    }
}
