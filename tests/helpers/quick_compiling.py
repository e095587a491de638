"""The flag with which programs of quick tests compile in half the processor time, for pytest and for commands."""

XLA_FLAGS = "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters"
"""The emitters of fusions that XLA has on CPU make an MLIR context for each fusion, which is most of the time that a
small program takes to compile. Those before them do without, and what they compile runs slower. A version of XLA that
has no such option takes no notice."""
