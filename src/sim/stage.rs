//! A small world for tests.

use super::{
    object::{name, text},
    resource::{Key, Resource},
    store::Manager,
    world::World,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// A world with three nodes, some things to do with it, and some to ask of it.
pub struct Stage(pub World);

pub const NAMESPACE: &str = "default";

impl Stage {
    pub fn new() -> Self {
        let mut world = World::new(Timestamp::constant(1_800_000_000, 0), 7);
        world.add_nodes(3);
        Self(world)
    }

    pub fn key(resource: Resource, name: &str) -> Key {
        Key::new(resource, NAMESPACE, name)
    }

    pub fn pass(&mut self, seconds: i64) {
        let to = self.0.store.now() + SignedDuration::from_secs(seconds);
        self.0.step(to);
        assert!(!self.0.ran_away());
    }

    /// Creates a workload of three pods with an image; `edit` changes it before.
    pub fn create(&mut self, resource: Resource, workload: &str, edit: impl FnOnce(&mut Value)) {
        let mut object = json!({
            "metadata": {"name": workload, "annotations": {"team": "shop"}},
            "spec": {
                "replicas": 3, "selector": {"matchLabels": {"app": workload}},
                "template": {
                    "metadata": {"labels": {"app": workload}},
                    "spec": {"containers": [{"name": "main", "image": "app:1", "ports": [{"containerPort": 8080}]}]},
                },
            },
        });
        edit(&mut object);
        self.0.store.create(resource, NAMESPACE, object, Manager("kubectl")).expect("created");
        self.pass(0);
    }

    pub fn update(&mut self, resource: Resource, workload: &str, edit: impl FnOnce(&mut Value)) {
        self.0.store.update(&Self::key(resource, workload), Manager("kubectl"), edit).expect("updated");
        self.pass(0);
    }

    pub fn set_image(&mut self, resource: Resource, workload: &str, image: &str) {
        self.update(resource, workload, |object| {
            object["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
        });
    }

    pub fn get(&self, resource: Resource, name: &str) -> Value {
        self.0.store.get(&Self::key(resource, name)).cloned().unwrap_or_default()
    }

    pub fn all(&self, resource: Resource) -> Vec<Value> {
        self.0.store.list(resource, Some(NAMESPACE)).map(|(_, object)| object.clone()).collect()
    }

    /// Names and images of the pods that are not leaving, in order.
    pub fn images(&self) -> Vec<(String, String)> {
        let pods = self.all(Resource::Pods).into_iter().filter(|pod| !super::object::deleting(pod));
        pods.map(|pod| (name(&pod).to_owned(), text(&pod, "/spec/containers/0/image").to_owned())).collect()
    }

    /// How many pods run an image and are Ready.
    pub fn ready(&self, image: &str) -> usize {
        let pods = self.all(Resource::Pods);
        let runs = |pod: &&Value| text(pod, "/spec/containers/0/image") == image && super::object::active(pod);
        pods.iter().filter(runs).filter(|pod| super::object::ready_since(pod).is_some()).count()
    }

    /// `True/reason` of a condition of a Deployment.
    pub fn condition(&self, workload: &str, kind: &str) -> String {
        let deployment = self.get(Resource::Deployments, workload);
        let condition = super::object::condition(&deployment, kind).cloned().unwrap_or_default();
        format!("{}/{}", text(&condition, "/status"), text(&condition, "/reason"))
    }
}
