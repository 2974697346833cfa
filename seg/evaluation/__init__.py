"""Evaluation of segmentation: IoU, boundary IoU, protocols' results, tables and reports.

Modules are imported by name: ``seg.evaluation.confusion``, ``boundary``, ``metric`` (what configs
call ``seg.SegmentationMetric``), ``results``, ``seeds``, ``report``, ``page``, ``provenance``.
"""
