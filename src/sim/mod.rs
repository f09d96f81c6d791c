//! A simulated cluster: Kubernetes' API for the kinds that Lastgood uses, its controllers, and pods that answer
//! HTTP. It knows Kubernetes and nothing of Lastgood, so that it cannot be kind to it.
