"""Agents that learn together, and learners whose opponents learn as well."""
