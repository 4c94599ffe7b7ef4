"""Finds out which address clients dial, where only the cluster knows: `derpd-address`.

It runs in a pod before `derpd`, reads what is configured, fills in what differs from
pod to pod, and writes the configuration that `derpd` reads.
"""
