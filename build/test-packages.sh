#!/usr/bin/env bash
# Packs the libraries into a local feed and uses them as a stranger would: a fresh project outside the repository, with one package reference and the native runtime of its choice.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=0.1.0-test.$$.$(date +%s) # never in a cache already

for project in MLNetLora.Jinja MLNetLora MLNetLora.Parquet MLNetLora.Reports; do
  dotnet pack "$repository/src/$project" -c Release -v q -nologo -p:Version="$version" -o "$work/feed"
done

for package in MLNetLora MLNetLora.Jinja MLNetLora.Parquet MLNetLora.Reports; do
  # The names in a zip are plain text.
  for file in LICENSE README.md CHANGELOG.md "lib/net10.0/$package.dll" "lib/net10.0/$package.xml"; do
    grep -aqF "$file" "$work/feed/$package.$version.nupkg" || { echo "$package lacks $file"; exit 1; }
  done
  [ -f "$work/feed/$package.$version.snupkg" ] || { echo "$package has no symbols"; exit 1; }
done

mkdir "$work/app" && cd "$work/app"
cat > nuget.config <<EOF
<configuration>
  <packageSources><add key="local" value="$work/feed" /></packageSources>
</configuration>
EOF
runtime=$(sed -n 's/.*"Microsoft.ML.OnnxRuntime" Version="\([^"]*\)".*/\1/p' "$repository/Directory.Packages.props")
cat > app.csproj <<EOF
<Project Sdk="Microsoft.NET.Sdk">
  <PropertyGroup>
    <OutputType>Exe</OutputType>
    <TargetFramework>net10.0</TargetFramework>
    <ImplicitUsings>enable</ImplicitUsings>
    <Nullable>enable</Nullable>
    <RestorePackagesPath>$work/packages</RestorePackagesPath>
    <RestoreFallbackFolders>$(dotnet nuget locals global-packages --list | sed 's/^[^:]*: *//')</RestoreFallbackFolders>
  </PropertyGroup>
  <ItemGroup>
    <PackageReference Include="MLNetLora" Version="$version" />
    <PackageReference Include="Microsoft.ML.OnnxRuntime" Version="$runtime" />
  </ItemGroup>
</Project>
EOF
cat > Program.cs <<'EOF'
using Microsoft.ML;
using MLNetLora.Inference;
using MLNetLora.TextGeneration;

MLContext ml = new(seed: 1);
IDataView rows = ml.Data.LoadFromEnumerable(Enumerable.Range(0, 4).Select(i => new Row { Instruction = $"What is {i}?", Output = "A number." }));
using (QwenLoraTransformer model = ml.TextGeneration.Trainers.QwenLora(new QwenLoraTrainer.Options
{
    ModelPath = args[0],
    NumberOfEpochs = 1,
    Generation = new GenerationOptions { MaximumNewTokens = 4 },
}).Fit(rows))
{
    model.Save("model.zip");
    model.Adapter.SaveAsPeft("adapter");
}

using QwenLoraTransformer loaded = ml.TextGeneration.Load("model.zip");
using QwenLoraTransformer adapted = ml.TextGeneration.LoadAdapter(args[0], "adapter", options => options.Generation.MaximumNewTokens = 4);
string answer = loaded.Generate("What is 3?");
Console.WriteLine(answer);
return answer.Length > 0 && answer == adapted.Generate("What is 3?") ? 0 : 1;

internal sealed class Row
{
    public string Instruction { get; set; } = "";

    public string Output { get; set; } = "";
}
EOF
dotnet run -c Release -- "$repository/samples/models/qwen3-nano"
echo "the packages work in a fresh project"
