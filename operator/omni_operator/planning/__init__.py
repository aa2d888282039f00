"""Plans a revision before an object is made: from a spec and an inventory to a Plan or a PlanError.

The steps, in their order:

1.  `planner.make_plan` finds the release's record (engine/releases.py) and the pipeline on it, and
    checks what the schema cannot know of the spec (`overrides`): names of stages and edges, what a
    backend cannot do.
2.  `demand` says what each stage needs on each backend: its devices, its copies, and which stages
    share devices (device groups).
3.  `capacity` counts the nodes that admit the pods, equal nodes and equal domains together: what
    they can allocate, and what is available of that.
4.  `layout` gives the layouts: which stages share a pod, and which pods a node.
5.  `context` holds the facts by which transports are chosen. For every layout `transports` chooses
    the cheapest usable transport of each edge (`cost`), or of each group of edges that must share a
    connector; `rejection` and the modules of connectors/ say what is not usable, each time with a
    code and a fact. `assignment` keeps the result, since many layouts have the same edges inside
    pods.
6.  `search` ranks the layouts with their assignments and takes the first that fits (`packing`) what
    is available, else the first that fits what is allocatable: that one waits.
7.  `build` makes the Plan: pods with their sizes (`sizing`), devices, ports (`ports`), notes.
    Without a layout `plan_error` says what stood in the way and what the user can change.

`feasibility` answers later whether a plan that was kept can still be scheduled.

Invariants, which tests/unit/planning checks by properties:

-   Equal inputs give equal plans; the order of nodes changes nothing.
-   No clock, no network, no randomness. The only state is caches inside one search.
-   Every planned pod can be scheduled on the nodes if they are empty, and, when the plan does not
    wait, on what is available now.
-   No edge has a transport that any fact rules out, and every better transport that was not taken
    has its code and fact in the plan.
-   More nodes never make a plan worse.
-   Both ends of an edge have the same connector, protocol and settings, and edges that share a
    store have one protocol.
"""
