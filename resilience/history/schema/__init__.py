"""The database: its tables and views, migrations, engines and drivers, and what its errors mean."""
