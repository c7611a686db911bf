"""`python -m claude_conductor.agent_tools`: the same as `conductor-agent`."""

from claude_conductor.agent_tools.main import main

if __name__ == "__main__":
    raise SystemExit(main())
