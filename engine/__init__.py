"""What the three trainers share: Runner, loops, hooks, precision, run manifest, command line.

Nothing is imported here: ``engine.cli`` serves ``--help`` before torch is loaded.
"""
