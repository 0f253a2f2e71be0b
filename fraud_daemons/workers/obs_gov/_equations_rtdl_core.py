"""From the bus to the feature vectors: the lines of the run report for the pack `rtdl_core`."""

from __future__ import annotations

from typing import Final

from fraud_daemons.workers.obs_gov._equation_terms import (
    ADMITTED,
    Archived,
    Letters,
    Line,
    Logged,
    Query,
    letters,
    log_ids,
)

LINES: Final[tuple[Line, ...]] = (
    Line(
        "admitted_traffic_equals_bound",
        Query("gate: admitted traffic ids", "IG_ADMISSION_DSN", f"{ADMITTED} and event_type = 'traffic'"),
        Query(
            "bindings: traffic ids",
            "CSFB_PROJECTION_DSN",
            "select event_id from csfb.bindings where platform_run_id = %(run)s",
        ),
        letters("CSFB_PROJECTION_DSN", "context_store_flow_binding", "traffic"),
    ),
    Line(
        "admitted_context_equals_frames_and_anchors",
        Query(
            "gate: admitted ids of arrivals, entities and anchors",
            "IG_ADMISSION_DSN",
            f"{ADMITTED} and event_type in ('arrival_events', 'arrival_entities', 'flow_anchors')",
        ),
        Query(
            "context store: ids in frames and anchors, and those kept apart as conflicts",
            "CSFB_PROJECTION_DSN",
            "select arrival_event_id from csfb.frames where platform_run_id = %(run)s and arrival_event_id is not null"
            " union all select entities_event_id from csfb.frames where platform_run_id = %(run)s"
            " and entities_event_id is not null"
            " union all select event_id from csfb.anchors where platform_run_id = %(run)s"
            " union all select event_id from csfb.anomalies where platform_run_id = %(run)s and \"output\" <> 'traffic'",
        ),
        Letters(
            "dead letters of context_store_flow_binding",
            tuple(
                letters("CSFB_PROJECTION_DSN", "context_store_flow_binding", topic)
                for topic in ("arrival_events", "arrival_entities", "flow_anchors")
            ),
        ),
    ),
    Line(
        "bound_equals_published",
        Query(
            "bindings: flow ids",
            "CSFB_PROJECTION_DSN",
            "select flow_id from csfb.bindings where platform_run_id = %(run)s",
        ),
        log_ids("bus: flow ids of flows.bound", "flows.bound"),
    ),
    Line(
        "bound_equals_featured",
        log_ids("bus: flow ids of flows.bound", "flows.bound"),
        Query(
            "snapshot index: flow ids",
            "OFP_PROJECTION_DSN",
            "select flow_id from ofp.snapshots where platform_run_id = %(run)s",
        ),
        letters("OFP_PROJECTION_DSN", "online_feature_plane", "flows.bound"),
    ),
    Line(
        "featured_equals_published",
        Query(
            "snapshot index: flow ids",
            "OFP_PROJECTION_DSN",
            "select flow_id from ofp.snapshots where platform_run_id = %(run)s",
        ),
        log_ids("bus: flow ids of flows.featured", "flows.featured"),
    ),
    Line(
        "labels_equal_applied",
        Query(
            "label store: ids",
            "LABEL_STORE_LOCATOR",
            "select label_id from label_store.assertions where platform_run_id = %(run)s",
        ),
        Query(
            "feature plane's ledger: ids of labels taken in, those that wait for their flow or are not counted among them",
            "OFP_PROJECTION_DSN",
            "select label_id from ofp.labels where platform_run_id = %(run)s",
        ),
        letters("OFP_PROJECTION_DSN", "online_feature_plane", "labels"),
    ),
    Line(
        "bound_equals_graph_applied",
        log_ids("bus: flow ids of flows.bound", "flows.bound"),
        Query(
            "entity graph: flow ids applied",
            "IEG_PROJECTION_DSN",
            "select flow_id from ieg.applied where platform_run_id = %(run)s",
        ),
        letters("IEG_PROJECTION_DSN", "identity_entity_graph", "flows.bound"),
    ),
    Line(
        "published_equals_archived",
        Logged("bus: topic, place and id of every record, requests on control apart", places=True),
        Archived("object store: topic, place and id of every line of the archive objects, requests on control apart"),
    ),
)
