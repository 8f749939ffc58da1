"""What a build will be before it is: workload, memory, work, hours, rates, machines.

Arithmetic with its formulas; a number that another room acts on is asked from its owner there. Costs change with
`stages`, `tasks` and `index`; tables for people are in `pipelines.terminal`.
"""
